"""Outputs of fine-tuned models, drawn on the frames of their inputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from torch import nn
from tqdm import tqdm

from maskfeat_plugin.checkpoints.names import collapse
from maskfeat_plugin.config.input_pipeline import InputPipeline, inference_pipeline, list_inputs, title_of
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.visualization import compose, draw_boxes, pad_to_height
from maskfeat_plugin.visualization.animation import write_frames
from maskfeat_plugin.visualization.boxes import FOUND_COLOR, TRUE_COLOR, add_caption, add_scores, enlarge_to
from maskfeat_plugin.visualization.panels import strip

from ..model_loading import build_model
from .action_inputs import decoding, takes_boxes
from .chosen_samples import Choice, build_split, unique_stems
from .class_names import ClassNames
from .model_outputs import Classes, Located, frames_of, read_result

OTHER_FRAME_COLOR = (150, 150, 150)
# Largest shorter side, in pixels, of the frames of a data set that pictures are drawn on
_MAX_SIDE = 480


@dataclass(frozen=True)
class Sample:
    """A sample to visualize.

    Args:
        stem (str): Name of the files that are written about it, without their ending.
        title (str): Name of the sample in a picture.
        read (Callable[[], dict]): Function that reads the sample: packed ``inputs`` and ``data_samples``.
        path (str): Path of its file; "" for a sample of a data set. Defaults to "".
        read_frames (Callable[[], np.ndarray], optional): Function that reads the frames to draw on, RGB, uint8
            (T, H, W, 3). Defaults to None: the frames that the model takes.
    """

    stem: str
    title: str
    read: Callable[[], dict]
    path: str = ""
    read_frames: Callable[[], np.ndarray] | None = None


class Samples:
    """Samples from files or from a config's data set. They go through the test pipeline of the config.

    Args:
        cfg (Config): Config of fine-tuning.
        inputs (Sequence[str]): Files and folders.
        choice (Choice, optional): Samples of the config's data set to use instead. Defaults to None.

    Raises:
        ConfigError: If a file is missing, of another kind than the config takes, or broken, as far as this is visible
            without decoding it.
    """

    def __init__(self, cfg: Config, inputs: Sequence[str], choice: Choice | None = None) -> None:
        title = title_of(cfg)
        pipeline = inference_pipeline(cfg)
        kinds = [str(transform["type"]).rpartition(".")[2] for transform in pipeline]
        if choice is not None:
            dataset = build_split(cfg, choice.split, pipeline)
            self.takes_clips = "FormatShape" in kinds  # a transform of mmaction2
            decoded = decoding(pipeline) if takes_boxes(pipeline) else None
            whole = None if decoded is None else build_split(cfg, choice.split, decoded)
            self._samples = [
                Sample(
                    choice.stem(i),
                    f"{choice.split} {i}",
                    partial(_read, dataset, i, choice, cfg),
                    read_frames=None if whole is None else partial(_read_frames, whole, i, choice, cfg),
                )
                for i in choice.of(dataset)
            ]
            return
        if takes_boxes(pipeline):
            raise ConfigError(
                f"{title} finds the actions of persons in boxes, but a video has no boxes; give samples of its data "
                "set: --dataset test, or the boxes of the video: --boxes FILE or --detector CONFIG."
            )
        # files have no annotations
        reader = InputPipeline(cfg, [t for t, kind in zip(pipeline, kinds, strict=True) if kind != "LoadAnnotations"])
        self.takes_clips = reader.kind.is_clip
        items = list_inputs(list(inputs), reader.kind, title)
        self._samples = [
            Sample(stem, printable(Path(item.name).name), partial(reader, item, i), item.name)
            for i, (item, stem) in enumerate(zip(items, unique_stems(items), strict=True))
        ]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)


def _read(dataset: torch.utils.data.Dataset, index: int, choice: Choice, cfg: Config) -> dict:
    with named_errors(cfg, f"fails on sample {index}", (f"{choice.split}_dataloader.dataset",)):
        return dataset[index]


def _read_frames(dataset: torch.utils.data.Dataset, index: int, choice: Choice, cfg: Config) -> np.ndarray:
    """Read the frames of a sample before the pipeline changes their shape, and shrink large frames."""
    frames = _read(dataset, index, choice, cfg)["imgs"]
    scale = _MAX_SIDE / min(frames[0].shape[:2])
    if scale < 1:
        frames = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(frames)


def build_fine_tuned(cfg: Config, checkpoint: str | Path, device: str = "cpu") -> nn.Module:
    """Build the model of a config of fine-tuning with all of its weights, in evaluation mode.

    Args:
        cfg (Config): The config.
        checkpoint (str | Path): Its checkpoint.
        device (str): Device of the model. Defaults to "cpu".

    Returns:
        nn.Module: The model.

    Raises:
        ConfigError: If the model cannot be built, or the checkpoint does not load or lacks some of the weights.
    """
    model, lacking = build_model(cfg, checkpoint)
    if lacking:
        raise ConfigError(
            f"{checkpoint} has no {', '.join(collapse(lacking))}: it is not a checkpoint of {title_of(cfg)}. Give a "
            "checkpoint that a training with this config has written."
        )
    return model.to(device).eval()


@torch.no_grad()
def run(model: BaseModel, sample: dict) -> BaseDataElement:
    """Run the ``test_step`` of a fine-tuned model on a sample.

    Args:
        model (BaseModel): A model of mmpretrain, mmaction2 or mmdet, built with its config by :func:`.build_model`.
        sample (dict): Packed ``inputs`` and ``data_samples``.

    Returns:
        BaseDataElement: The result of ``test_step``, on the CPU.

    Raises:
        ConfigError: If the model does not take the sample.
    """
    cfg = model._config
    with named_errors(cfg, "fails on these inputs", ("model",)):
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            return model.test_step(pseudo_collate([sample]))[0].cpu()


def find(
    model: BaseModel,
    sample: dict,
    names: ClassNames,
    bgr: bool,
    top: int = 3,
    least_score: float = 0.3,
    frames: np.ndarray | None = None,
) -> tuple[np.ndarray, Classes | Located]:
    """Find the classes or the boxes of a sample with a fine-tuned model.

    Args:
        model (BaseModel): A model of mmpretrain, mmaction2 or mmdet, built with its config by :func:`.build_model`.
        sample (dict): Packed ``inputs`` and ``data_samples``.
        names (ClassNames): Names of the classes.
        bgr (bool): Whether the inputs' channels are blue, green, red.
        top (int): See :func:`.read_result`. Defaults to 3.
        least_score (float): See :func:`.read_result`. Defaults to 0.3.
        frames (np.ndarray, optional): Frames to draw on, see :func:`.read_result`. Defaults to None: the frames that
            the model takes.

    Returns:
        tuple[np.ndarray, Classes | Located]: The frames, RGB, uint8 (T, H, W, 3), and the classes or boxes.

    Raises:
        ConfigError: If the model does not take the sample, or its output cannot be drawn.
    """
    if frames is None:
        frames = frames_of(sample["inputs"], bgr)
    return frames, read_result(run(model, sample), frames, names, top, least_score)


def write_findings(
    model: nn.Module,
    samples: Samples,
    names: ClassNames,
    out: Path,
    top: int = 3,
    least_score: float = 0.3,
    clips: str = "gif",
) -> list[Path]:
    """Write a picture of a fine-tuned model's output for each sample, and for clips an animation too.

    Args:
        model (nn.Module): See :func:`find`.
        samples (Samples): The samples.
        names (ClassNames): Names of the classes.
        out (Path): Folder to write to.
        top (int): See :func:`.read_result`. Defaults to 3.
        least_score (float): See :func:`.read_result`. Defaults to 0.3.
        clips (str): Format of the animations, "gif" or "mp4". Defaults to "gif".

    Returns:
        list[Path]: The files.

    Raises:
        ConfigError: See :func:`find`; also if a sample cannot be read.
    """
    written = []
    for sample in tqdm(samples, "Looking", unit="sample"):
        whole = None if sample.read_frames is None else sample.read_frames()
        frames, finding = find(model, sample.read(), names, not samples.takes_clips, top, least_score, whole)
        written.append(write_frames(out / f"{sample.stem}.png", draw_still(frames, finding, sample.title)[None]))
        if len(frames) > 1:
            written.append(write_frames(out / f"{sample.stem}.{clips}", draw_moving(frames, finding, sample.title)))
    return written


def draw_still(frames: np.ndarray, finding: Classes | Located, title: str) -> np.ndarray:
    """Draw one picture of a sample.

    Args:
        frames (np.ndarray): RGB, uint8 (T, H, W, 3), T = 1 for an image.
        finding (Classes | Located): Output of the model.
        title (str): Name of the sample.

    Returns:
        np.ndarray: RGB, uint8 (height, width, 3): all frames with the classes below them, or the key frame with the
        boxes.
    """
    if isinstance(finding, Classes):
        return _with_classes(strip(np.stack([enlarge_to(frame) for frame in frames])), finding, title)
    key_frame = finding.key_frame or 0
    return _boxes_page(frames[key_frame], finding, title, FOUND_COLOR, TRUE_COLOR)


def draw_moving(frames: np.ndarray, finding: Classes | Located, title: str) -> np.ndarray:
    """Draw the frames of an animation of a clip: each frame with the classes or with the boxes.

    Boxes are grey on all frames but the key frame, to which they belong.

    Args:
        frames (np.ndarray): See :func:`draw_still`.
        finding (Classes | Located): See :func:`draw_still`.
        title (str): See :func:`draw_still`.

    Returns:
        np.ndarray: RGB, uint8 (T, height, width, 3).
    """
    if isinstance(finding, Classes):
        return np.stack([_with_classes(enlarge_to(frame), finding, title) for frame in frames])
    pages = []
    for number, frame in enumerate(frames):
        key = number == finding.key_frame
        colors = (FOUND_COLOR, TRUE_COLOR) if key else (OTHER_FRAME_COLOR,) * 2
        pages.append(_boxes_page(frame, finding, title, *colors))
    return np.stack(pages)


def _with_classes(picture: np.ndarray, finding: Classes, title: str) -> np.ndarray:
    picture = add_scores(picture, finding.best)
    lines = [f"true: {', '.join(finding.true)}"] if finding.true else []
    return add_caption(picture, [*lines, title], dim=True)


def _boxes_page(
    frame: np.ndarray, finding: Located, title: str, found: tuple[int, int, int], true: tuple[int, int, int]
) -> np.ndarray:
    pictures = {f"{title}: found": draw_boxes(frame, finding.found.boxes, finding.found.labels, found)}
    if finding.true is not None:
        pictures["true"] = draw_boxes(frame, finding.true.boxes, finding.true.labels, true)
    return compose(dict(zip(pictures, pad_to_height(list(pictures.values())), strict=True)))
