"""Export of models to ONNX and ``torch.export``. The outputs of each file are compared with the model's."""

import importlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from torch import Tensor

from maskfeat_plugin.config.input_kinds import input_kind
from maskfeat_plugin.config.input_pipeline import inference_pipeline, title_of
from maskfeat_plugin.config.sample_sizes import input_size, sample_channels
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing

from ..model_loading import load_backbone
from ..pictures.class_names import read_class_names
from ..pictures.fine_tuned import build_fine_tuned
from .detector import DetectingModel
from .parts import ExportedPart, FeatureModel, ScoringModel

INPUTS = "inputs"
# Sizes of the batches that the file is compared on. The export uses two samples.
_BATCH_SIZES = (1, 3)


@dataclass(frozen=True)
class Export:
    """Description of an exported file.

    Args:
        path (Path): The file.
        shape (tuple[int, ...]): Shape of one sample: (C, H, W), or (C, T, H, W) for a clip.
        outputs (dict[str, tuple[int, ...]]): Shape of each output for one sample.
        description (str): The outputs in words.
        difference (float): Largest difference between the model and the file: of the logarithms of scores, of features
            as a share of the largest feature, or of detections, see :meth:`.DetectingModel.compare`.
        tolerance (float): The largest difference that is allowed.
        remark (str): Reason why the comparison proves little; "" if there is none.
    """

    path: Path
    shape: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]
    description: str
    difference: float
    tolerance: float
    remark: str

    @property
    def num_classes(self) -> int:
        """Number of scores of a sample."""
        return self.outputs["scores"][0]


def export_model(
    cfg: Config, checkpoint: str, out: Path, backbone: bool = False, size: tuple[int, int] | None = None
) -> Export:
    """Export a model, and compare the outputs of the file with the outputs of the model.

    The file is written under a temporary name. It gets its final name only after the comparison.

    Args:
        cfg (Config): Config of an ``ImageClassifier``, a ``Recognizer3D`` or a detector of mmdet, see
            :class:`.DetectingModel`. With ``backbone`` the config of any model, including pre-training.
        checkpoint (str): Path or URL of the fine-tuned weights of this config; with ``backbone``, of a checkpoint in
            any format of docs/checkpoints.md.
        out (Path): The file: ``.onnx``, or ``.pt2`` for ``torch.export``. Both take batches of any size; the file of a
            detector takes one image.
        backbone (bool): Whether to export only the backbone, which gives features. Defaults to False.
        size (tuple[int, int], optional): (H, W) of the inputs. Defaults to None: the size that the test pipeline gives.

    Returns:
        Export: Description of the file.

    Raises:
        ConfigError: If the config, the checkpoint or the name of the file does not fit, a package is missing, or the
            outputs differ by more than the part's ``tolerance``.
    """
    if out.suffix not in _FORMATS:
        raise ConfigError(f"{out}: the ending of the name sets the format. Use one of {', '.join(_FORMATS)}.")
    write, read, packages = _FORMATS[out.suffix]
    _require(packages)
    part, classes = _build_backbone(cfg, checkpoint) if backbone else _build_whole(cfg, checkpoint)
    shape = (sample_channels(cfg), *_size_of_samples(cfg, part.ndim, size))
    largest = 255 if float(part.mean.max()) <= 255 else 65535
    channels = _channels(cfg, shape[0])
    about = {
        "config": Path(cfg.filename).name,
        "inputs": f"float32 N x {' x '.join(map(str, shape))}, 0 to {largest}, {channels}; normalised inside",
        **part.outputs,
        **classes,
    }
    with torch.no_grad():
        # before the export, during which models store tables without values
        counts = _BATCH_SIZES if part.takes_batches else (1, 1)
        samples = [(inputs, _as_list(part(inputs))) for inputs in _draw_batches(counts, shape, largest)]
        # a size that is not among the compared ones, so that the comparison finds a batch size fixed in the file
        example, dynamic = (2, ({0: torch.export.Dim("batch")},)) if part.takes_batches else (1, None)
        program = torch.export.export(part, (torch.zeros(example, *shape),), dynamic_shapes=dynamic, strict=False)
    with writing(out) as unfinished, torch.no_grad():
        write(program, unfinished, about, tuple(part.outputs))
        exported = read(unfinished)
        difference = max(part.compare(ours, exported(inputs)) for inputs, ours in samples)
        if difference > part.tolerance:
            raise ConfigError(
                f"{out} is not written: its {' and '.join(part.outputs)} differ from the model's by {difference:.1e}; "
                f"at most {part.tolerance:.0e} is allowed."
            )
    first = 1 if part.takes_batches else 0
    shapes = {name: tuple(output.shape[first:]) for name, output in zip(part.outputs, samples[0][1], strict=True)}
    remark = part.remark([ours for _, ours in samples])
    return Export(out, shape, shapes, part.describe(shapes), difference, part.tolerance, remark)


def _build_backbone(cfg: Config, checkpoint: str) -> tuple[ExportedPart, dict[str, str]]:
    """Build the backbone of a config with its weights."""
    if not isinstance(cfg.get("model", {}).get("backbone"), dict):
        raise ConfigError(f"{title_of(cfg)} has no model.backbone, which gives the features. Give another config.")
    is_clip = input_kind(inference_pipeline(cfg), title_of(cfg)).is_clip
    return FeatureModel(load_backbone(cfg, checkpoint), 5 if is_clip else 4), {}


def _build_whole(cfg: Config, checkpoint: str) -> tuple[ExportedPart, dict[str, str]]:
    """Build a config's model with fine-tuned weights, and read the names of its classes if they are known."""
    if "model" not in cfg:
        raise ConfigError(f"{cfg.filename} has no model.")
    try:
        model = build_fine_tuned(cfg, checkpoint)
    except ConfigError as error:
        raise ConfigError(f"{checkpoint} does not fit {cfg.filename}: {error}") from error
    names = read_class_names(cfg, checkpoint)
    part = DetectingModel(model) if isinstance(model, BaseDetector) else ScoringModel(model)
    return part, dict(classes=json.dumps([names[i] for i in range(len(names))] or None))


def _size_of_samples(cfg: Config, ndim: int, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return the size of the model's inputs in testing: (H, W), or (T, H, W) for clips."""
    if size is not None and ndim == 4:
        return tuple(size)
    for key in ("test_dataloader", "val_dataloader", "train_dataloader"):
        dataset = (cfg.get(key) or {}).get("dataset") or {}
        found = input_size(dataset.get("pipeline"), cfg.get("default_scope"))
        if found is not None and len(found) == ndim - 2:
            return found if size is None else (found[0], *size)
    what = "frames, height and width" if ndim == 5 else "height and width"
    raise ConfigError(
        f"test_dataloader.dataset.pipeline does not say the {what} of the model's inputs. Crop to a fixed size in the "
        "pipeline, or give the size of images with --size."
    )


def _channels(cfg: Config, number: int) -> str:
    """Return the order of the channels that the model takes."""
    if number != 3:
        return "channels in the order of the files"
    preprocessor = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    # mmpretrain and mmdet read BGR, which to_rgb and bgr_to_rgb convert; mmaction2's decoders give RGB
    is_image = cfg.get("default_scope") in ("mmpretrain", "mmdet")
    return "BGR" if is_image and not (preprocessor.get("to_rgb") or preprocessor.get("bgr_to_rgb")) else "RGB"


def _require(packages: Iterable[str]) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"ONNX needs the package {package}: pip install -r requirements/export.txt, or "
                "pip install 'maskfeat_plugin[export]'."
            ) from error


def _draw_batches(counts: Sequence[int], shape: tuple[int, ...], largest: int) -> Iterator[Tensor]:
    """Draw random batches of the given sizes for the comparison."""
    generator = torch.Generator().manual_seed(0)
    for batch_size in counts:
        yield torch.randint(0, largest + 1, (batch_size, *shape), generator=generator).float()


def _as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, about: Mapping[str, str], outputs: Sequence[str]
) -> None:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of optimizations that it skips
    onnx_program = torch.onnx.export(
        program, (), dynamo=True, input_names=[INPUTS], output_names=list(outputs), verbose=False
    )
    assert onnx_program is not None  # never None with dynamo=True
    onnx_program.model.metadata_props.update(about)
    onnx_program.save(str(path))


def _read_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: [torch.from_numpy(output) for output in session.run(None, {INPUTS: inputs.numpy()})]


def _write_pt2(
    program: torch.export.ExportedProgram, path: Path, about: Mapping[str, str], outputs: Sequence[str]
) -> None:
    buffer = io.BytesIO()  # if the disk is full, torch's own writing ends the process
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about)})
    path.write_bytes(buffer.getvalue())  # getbuffer() may crash Python before 3.12.2 (python/cpython#111049)


def _read_pt2(path: Path) -> Callable[[Tensor], list[Tensor]]:
    with open(path, "rb") as file:
        module = torch.export.load(file).module()
    return lambda inputs: _as_list(module(inputs))


_FORMATS = {
    ".onnx": (_write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    ".pt2": (_write_pt2, _read_pt2, ()),
}
"""Ending of the file's name -> function that writes it, function that reads it, packages that they need."""
