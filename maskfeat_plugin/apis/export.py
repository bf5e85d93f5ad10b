"""Fine-tuned classifiers and recognizers for others to run: ONNX and ``torch.export``, compared with the model."""

import importlib
import io
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmaction.models import Recognizer3D
from mmengine.config import Config
from mmpretrain.models import ImageClassifier, MultiLabelClsHead
from torch import Tensor, nn

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.writing import writing

from .looking.class_names import read_class_names
from .looking.fine_tuned import build_fine_tuned
from .sample_sizes import input_size, sample_channels

INPUTS, SCORES = "inputs", "scores"
# Batches that the exported model is compared on; it was traced with two samples
_BATCH_SIZES = (1, 3)
# Largest difference of a logit: the models' own are some ten, rounding grows with their depth
TOLERANCE = 1e-3
_LEAST_SCORE = 1e-30


@dataclass(frozen=True)
class Export:
    """What was exported.

    Args:
        path (Path): The file.
        shape (tuple[int, ...]): Of one sample: (C, H, W), or (C, T, H, W) of a clip.
        num_classes (int): Scores of a sample.
        difference (float): The largest between a logarithm of a score of the model and of the file.
    """

    path: Path
    shape: tuple[int, ...]
    num_classes: int
    difference: float


class ScoringModel(nn.Module):
    """From frames to scores: a fine-tuned model with its normalisation, without what reads and packs data.

    Args:
        model (ImageClassifier | Recognizer3D): The model. Its head gives one score a class, of which the softmax is
            taken.

    Raises:
        ConfigError: If it is of another type, or its head gives several labels.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if isinstance(model, ImageClassifier):
            self.head, self.ndim = model.head, 4
        elif isinstance(model, Recognizer3D):
            self.head, self.ndim = model.cls_head, 5
        else:
            raise ConfigError(
                f"model.type={type(model).__name__!r} is not exported; only ImageClassifier of mmpretrain and "
                "Recognizer3D of mmaction2 are."
            )
        if isinstance(self.head, MultiLabelClsHead) or getattr(self.head, "multi_class", False):
            raise ConfigError(f"a head that gives several labels is not exported: {type(self.head).__name__}.")
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None
        mean, std = (getattr(model.data_preprocessor, name, None) for name in ("mean", "std"))
        shape = (-1,) + (1,) * (self.ndim - 2)
        self.register_buffer("mean", torch.zeros(1).view(shape) if mean is None else mean.clone().view(shape))
        self.register_buffer("std", torch.ones(1).view(shape) if std is None else std.clone().view(shape))
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """Score samples.

        Args:
            inputs (Tensor): float32, values 0 to 255, or 0 to 65535 of 16 bits, channels as the model was trained with
                them after its data preprocessor's conversion. Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: Probabilities (N, classes).
        """
        features = self.backbone((inputs - self.mean) / self.std)
        if self.neck is not None:
            features = self.neck(features)
            if isinstance(features, tuple) and isinstance(features[-1], dict):
                features = features[0]  # mmaction2's necks give their losses too
        return self.head(features).softmax(-1)


def export_model(cfg: Config, checkpoint: str, out: Path) -> Export:
    """Export a fine-tuned model and compare what the file computes with the model.

    The file is written under a temporary name and gets its own only when it was compared.

    Args:
        cfg (Config): Config of an ``ImageClassifier`` or a ``Recognizer3D``.
        checkpoint (str): The fine-tuned weights, of this config: a path or a URL.
        out (Path): The file: ``.onnx``, or ``.pt2`` of ``torch.export``. Both take batches of any size.

    Returns:
        Export: What was written.

    Raises:
        ConfigError: If the config, the checkpoint or the name of the file does not fit, a package is missing, or the
            scores differ by more than :data:`TOLERANCE`.
    """
    if out.suffix not in _FORMATS:
        raise ConfigError(f"{out}: the format is known by the name's end; choose one of {', '.join(_FORMATS)}.")
    write, read, packages = _FORMATS[out.suffix]
    _require(packages)
    model, classes = _build(cfg, checkpoint)
    scoring = ScoringModel(model)
    shape = (sample_channels(cfg), *_size_of_samples(cfg, scoring.ndim))
    largest = 255 if float(scoring.mean.max()) <= 255 else 65535
    channels = _channels(cfg, shape[0])
    about = {
        "config": Path(cfg.filename).name,
        "inputs": f"float32 N x {' x '.join(map(str, shape))}, 0 to {largest}, {channels}; normalised inside",
        "scores": "float32 N x classes, probabilities",
        "classes": json.dumps(classes),
    }
    with torch.no_grad():
        program = torch.export.export(
            scoring, (torch.zeros(2, *shape),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    with writing(out) as unfinished, torch.no_grad():
        write(program, unfinished, about)
        difference, num_classes = _compare(scoring, read(unfinished), shape, largest)
        if difference > TOLERANCE:
            raise ConfigError(
                f"{out} is not written: logarithms of its scores differ from the model's by {difference:.1e}, "
                f"{TOLERANCE:.0e} is allowed."
            )
    return Export(out, shape, num_classes, difference)


def _build(cfg: Config, checkpoint: str) -> tuple[nn.Module, list[str] | None]:
    """A config's model with fine-tuned weights, and the names of its classes where they are known."""
    if "model" not in cfg:
        raise ConfigError(f"{cfg.filename} has no model.")
    try:
        model = build_fine_tuned(cfg, checkpoint)
    except ConfigError as error:
        raise ConfigError(f"{checkpoint} does not fit {cfg.filename}: {error}") from error
    names = read_class_names(cfg, checkpoint)
    return model, [names[i] for i in range(len(names))] or None


def _size_of_samples(cfg: Config, ndim: int) -> tuple[int, ...]:
    """(H, W), or (T, H, W) of clips, that testing feeds the model."""
    for key in ("test_dataloader", "val_dataloader", "train_dataloader"):
        dataset = (cfg.get(key) or {}).get("dataset") or {}
        size = input_size(dataset.get("pipeline"), cfg.get("default_scope"))
        if size is not None and len(size) == ndim - 2:
            return size
    what = "frames, height and width" if ndim == 5 else "height and width"
    raise ConfigError(
        f"test_dataloader.dataset.pipeline does not say the {what} of the model's inputs: crop to a size."
    )


def _channels(cfg: Config, number: int) -> str:
    """The order of the channels that the model takes."""
    if number != 3:
        return "channels in the order of the files"
    preprocessor = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    # mmpretrain reads BGR and mmaction2's decoders give RGB; to_rgb turns the former
    is_image = cfg.get("default_scope") == "mmpretrain"
    return "BGR" if is_image and not preprocessor.get("to_rgb") else "RGB"


def _require(packages: Iterable[str]) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(
                f"ONNX needs the package {package}: pip install -r requirements/export.txt, or "
                "pip install 'maskfeat_plugin[export]'."
            ) from error


def _compare(
    model: nn.Module, exported: Callable[[Tensor], np.ndarray], shape: tuple[int, ...], largest_input: int
) -> tuple[float, int]:
    """The largest difference between logarithms of scores, which are those of logits, and the number of classes."""
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch_size in _BATCH_SIZES:
        inputs = torch.randint(0, largest_input + 1, (batch_size, *shape), generator=generator).float()
        ours, theirs = model(inputs).double(), torch.from_numpy(exported(inputs)).double()
        ours, theirs = (scores.clamp_min(_LEAST_SCORE).log() for scores in (ours, theirs))
        largest = max(largest, float((ours - theirs).abs().max()))
    return largest, ours.shape[1]


def _write_onnx(program: torch.export.ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # tells of optimizations that it leaves out
    onnx_program = torch.onnx.export(
        program, (), dynamo=True, input_names=[INPUTS], output_names=[SCORES], verbose=False
    )
    onnx_program.model.metadata_props.update(about)
    onnx_program.save(str(path))


def _read_onnx(path: Path) -> Callable[[Tensor], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: session.run([SCORES], {INPUTS: inputs.numpy()})[0]


def _write_pt2(program: torch.export.ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    buffer = io.BytesIO()  # on a full disk torch's own writing ends the process
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(about)})
    path.write_bytes(buffer.getbuffer())


def _read_pt2(path: Path) -> Callable[[Tensor], np.ndarray]:
    with open(path, "rb") as file:
        module = torch.export.load(file).module()
    return lambda inputs: module(inputs).numpy()


_FORMATS = {
    ".onnx": (_write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    ".pt2": (_write_pt2, _read_pt2, ()),
}
"""By the end of the file's name: how it is written and read, and what that needs."""
