"""Function behind ``maskfeat visualize``: writes pictures of a model's outputs, depending on the kind of the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from torch import nn

from maskfeat_plugin.config.input_kinds import VIDEOS, input_kind
from maskfeat_plugin.config.input_pipeline import (
    inference_pipeline,
    list_inputs,
    title_of,
    training_pipeline,
    without_randomness,
)
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.errors import ConfigError

from ..inferencer import MaskFeatInferencer
from ..model_loading import load_backbone
from .action_inputs import ActionInputs, takes_boxes
from .chosen_samples import Choice, build_split, collect, files_of, unique_stems
from .class_names import ClassNames, check_number, read_class_names
from .fine_tuned import Samples, build_fine_tuned, write_findings
from .neighbours import write_neighbours
from .persons import PersonDetector, read_boxes
from .predictions import write_predictions
from .video_actions import write_actions

CLIPS = ("gif", "mp4")


@dataclass(frozen=True)
class Wishes:
    """Inputs and options of a visualization. For None, the defaults of :func:`visualize` apply.

    Args:
        inputs (Sequence[str]): Files and folders.
        choice (Choice, optional): Samples of the config's data set to use instead.
        mask_ratio (float, optional): Share of the tokens to mask.
        seed (int, optional): Seed of the masks.
        attention (bool): Whether to draw the attention.
        neighbours (int, optional): Number of nearest neighbours to draw instead of predictions.
        among (str, optional): Folder of the files that may be neighbours.
        top (int, optional): Number of classes to show.
        least_score (float, optional): Boxes of objects with a smaller score are left out.
        class_names (str, optional): File with the names of the classes.
        clips (str, optional): Format of animations, "gif" or "mp4".
        boxes (str, optional): Table of the boxes of persons in a video, see :func:`.read_boxes`.
        detector (str, optional): Config of a detector of mmdet that finds these boxes instead.
        detector_checkpoint (str, optional): Weights of the detector.
        detector_class (str, optional): Class of the detector whose boxes are used.
        every (float, optional): Seconds from one key frame to the next.
        batch_size (int): Number of inputs that the model takes at once.
        device (str): Device that the model runs on.
    """

    inputs: Sequence[str] = ()
    choice: Choice | None = None
    mask_ratio: float | None = None
    seed: int | None = None
    attention: bool = False
    neighbours: int | None = None
    among: str | None = None
    top: int | None = None
    least_score: float | None = None
    class_names: str | None = None
    clips: str | None = None
    boxes: str | None = None
    detector: str | None = None
    detector_checkpoint: str | None = None
    detector_class: str | None = None
    every: float | None = None
    batch_size: int = 8
    device: str = "cpu"


def visualize(cfg: Config, checkpoint: str, out: Path, wishes: Wishes) -> list[Path]:
    """Write pictures of a model's outputs for files or for samples of its data set.

    The pictures depend on the model and on the wishes:

    - Pre-trained models: masked input, prediction, target, original. By default, masks have the config's ratio and
      seed 0.
    - Fine-tuned models: by default the 3 most likely classes, or the 3 most likely actions of each person, or the boxes
      with a score of at least 0.3.
    - Both kinds, with ``neighbours``: the nearest neighbours among the training data, by the features of the backbone.
    - A video with boxes: the whole video with the actions in the boxes.

    For clips, animations are written too, by default as GIF.

    Args:
        cfg (Config): Config of pre-training or fine-tuning.
        checkpoint (str): Path or URL of its weights.
        out (Path): Folder to write to; it is made if it is missing.
        wishes (Wishes): Inputs and options.

    Returns:
        list[Path]: The files. None of them is incomplete.

    Raises:
        ConfigError: If the wishes do not fit each other or the config, or if an input or the checkpoint is missing,
            broken or of another kind. Errors that are visible before any work are raised before any work.
    """
    if "model" not in cfg:
        raise ConfigError(f"{title_of(cfg)} has no model.")
    pretraining = "target_generator" in cfg.model
    _check(cfg, wishes, pretraining)
    _check_boxes(cfg, wishes, pretraining)
    _check_out(out)
    clips = wishes.clips or CLIPS[0]
    if wishes.neighbours is not None:
        scope = cfg.get("default_scope")
        pipeline = without_randomness(training_pipeline(cfg), scope) if pretraining else inference_pipeline(cfg)
        return _look_at_neighbours(cfg, checkpoint, out, wishes, wishes.neighbours, pipeline, clips)
    if pretraining:
        kind = input_kind(training_pipeline(cfg), title_of(cfg))
        _check_clips(cfg, wishes, kind.is_clip)
        items, stems = collect(cfg, wishes.inputs, wishes.choice, kind)
        inferencer = MaskFeatInferencer(cfg, checkpoint, wishes.device, show_progress=False)
        return write_predictions(
            inferencer,
            items,
            stems,
            out,
            wishes.mask_ratio,
            wishes.seed or 0,
            wishes.batch_size,
            wishes.attention,
            clips,
        )
    top = 3 if wishes.top is None else wishes.top
    least_score = 0.3 if wishes.least_score is None else wishes.least_score
    if wishes.boxes is not None or wishes.detector is not None:
        return _look_at_videos(cfg, checkpoint, out, wishes, top, least_score)
    samples = Samples(cfg, wishes.inputs, wishes.choice)
    _check_clips(cfg, wishes, samples.takes_clips)
    model, names = _build(cfg, checkpoint, wishes)
    return write_findings(model, samples, names, out, top, least_score, clips)


def _build(cfg: Config, checkpoint: str, wishes: Wishes) -> tuple[nn.Module, ClassNames]:
    """Build a fine-tuned model and read the names of its classes."""
    names = read_class_names(cfg, checkpoint, wishes.class_names)
    model = build_fine_tuned(cfg, checkpoint, wishes.device)
    if wishes.class_names is not None:
        check_number(names, model, cfg)
    return model, names


def _look_at_videos(
    cfg: Config, checkpoint: str, out: Path, wishes: Wishes, top: int, least_score: float
) -> list[Path]:
    inputs = ActionInputs(cfg)
    items = list_inputs(list(wishes.inputs), VIDEOS, title_of(cfg))
    boxes: dict[float, np.ndarray] | PersonDetector
    if wishes.boxes is not None:
        if len(items) > 1:
            raise ConfigError(f"--boxes has the boxes of one video, but {len(items)} videos are given. Give one video.")
        boxes = read_boxes(wishes.boxes, least_score)
    else:
        assert wishes.detector is not None and wishes.detector_checkpoint is not None
        boxes = PersonDetector(
            load_config(wishes.detector),
            wishes.detector_checkpoint,
            wishes.device,
            wishes.detector_class,
            least_score,
        )
    model, names = _build(cfg, checkpoint, wishes)
    every = 1.0 if wishes.every is None else wishes.every
    return [
        write_actions(model, inputs, item.name, boxes, names, out / f"{stem}_actions.mp4", every, top)
        for item, stem in zip(items, unique_stems(items), strict=True)
    ]


def _look_at_neighbours(
    cfg: Config, checkpoint: str, out: Path, wishes: Wishes, neighbours: int, pipeline: list[dict], clips: str
) -> list[Path]:
    title = title_of(cfg)
    pipeline = [t for t in pipeline if not str(t["type"]).endswith(("LoadAnnotations", "MaskGenerator"))]
    kind = input_kind(pipeline, title)
    _check_clips(cfg, wishes, kind.is_clip)
    items, stems = collect(cfg, wishes.inputs, wishes.choice, kind)
    if wishes.among is not None:
        bank = list_inputs(wishes.among, kind, title)
    else:
        dataset = build_split(cfg, "train", [])
        bank = files_of(dataset, range(len(dataset)), title)
    model = load_backbone(cfg, checkpoint, wishes.device)
    return write_neighbours(cfg, model, pipeline, items, stems, bank, neighbours, out, wishes.batch_size, clips)


def _check(cfg: Config, wishes: Wishes, pretraining: bool) -> None:
    """Refuse wishes that do not fit each other or the kind of the config."""
    if bool(wishes.inputs) == (wishes.choice is not None):
        raise ConfigError("give either files and folders, or --dataset train, val or test, and not both.")
    looked_up = wishes.neighbours is not None
    if wishes.among is not None and not looked_up:
        raise ConfigError("--among is the folder to search for --neighbours; give --neighbours K too.")
    of_predictions = dict(mask_ratio=wishes.mask_ratio, seed=wishes.seed, attention=wishes.attention or None)
    of_findings = dict(top=wishes.top, least_score=wishes.least_score, class_names=wishes.class_names)
    for given, fits, what in (
        (of_predictions, pretraining, "a config of pre-training"),
        (of_findings, not pretraining, "a config of fine-tuning"),
    ):
        for name, value in given.items():
            option = f"--{name.replace('_', '-')}"
            if value is not None and not fits:
                raise ConfigError(f"{option} needs {what}; the model of {title_of(cfg)} is {cfg.model.get('type')}.")
            if value is not None and looked_up:
                raise ConfigError(f"{option} has no meaning with --neighbours, which compares whole inputs.")


def _check_boxes(cfg: Config, wishes: Wishes, pretraining: bool) -> None:
    """Refuse wishes about boxes in a video that do not fit each other or the config."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("boxes", "detector", "detector_checkpoint", "detector_class", "every")
        if getattr(wishes, name) is not None
    ]
    if not given:
        return
    if pretraining or not takes_boxes(inference_pipeline(cfg)):
        raise ConfigError(f"{given[0]} needs a config of action detection, as in configs/action_detection.")
    if wishes.choice is not None or wishes.neighbours is not None:
        other = "--neighbours" if wishes.choice is None else "--dataset"
        raise ConfigError(f"{given[0]} is for the actions of persons in a video; leave out {other}.")
    if (wishes.boxes is None) == (wishes.detector is None):
        raise ConfigError("give the boxes of persons in the video: --boxes FILE or --detector CONFIG, one of them.")
    if (wishes.detector is None) != (wishes.detector_checkpoint is None):
        raise ConfigError("--detector CONFIG and --detector-checkpoint FILE belong together; give both.")
    if wishes.detector_class is not None and wishes.detector is None:
        raise ConfigError("--detector-class is a class of the detector; give --detector CONFIG too.")
    if wishes.clips not in (None, "mp4"):
        raise ConfigError(f"--clips {wishes.clips}: a whole video is written as mp4; leave it out.")


def _check_clips(cfg: Config, wishes: Wishes, clip_config: bool) -> None:
    if wishes.clips is not None and not clip_config:
        raise ConfigError(f"--clips {wishes.clips} needs a config of clips; {title_of(cfg)} takes images.")


def _check_out(out: Path) -> None:
    """Make the output folder before any work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out={str(out)!r}: cannot write there ({error.strerror}); name another folder.") from error
