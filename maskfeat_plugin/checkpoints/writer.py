"""Writing of checkpoints for this package, upstream backbones, PySlowFast, timm, transformers and torchvision."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskfeat_plugin.files import sha256, writing
from maskfeat_plugin.version import __version__

from . import libraries, names
from .errors import CheckpointError
from .formats import PRETRAIN
from .layer_scale import fold_layer_scale
from .libraries import Target
from .names import NameTable
from .reader import Checkpoint
from .safe_files import is_safetensors, write_tensors
from .sharded import shard_files


@dataclass(frozen=True)
class Row:
    """Row of a conversion: the source and the target of one tensor.

    Attributes:
        source: Name in the source.
        target: Name in the target; None if the tensor is left out.
        shape: Shape in the target (in the source if the tensor is left out).
        reason: Why the tensor is left out or made, empty if it is copied.
    """

    source: str
    target: str | None
    shape: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Conversion:
    """State dict with the names of another project.

    Attributes:
        state: The tensors, in the order of the source.
        rows: A row for each tensor of the source, then for each tensor that was made.
        block: Metadata in the file, empty before it is written.
    """

    state: dict[str, Tensor]
    rows: list[Row]
    block: dict[str, Any] = field(default_factory=dict)


def convert(checkpoint: Checkpoint, to: str) -> Conversion:
    """Rename a checkpoint's weights to the names of another project.

    Args:
        checkpoint (Checkpoint): The weights.
        to (str): One of :data:`TARGETS`: "maskfeat", this package's names; "mmpretrain" or "mmaction2", the plain
            backbone with its own names and without prefix; "slowfast", the authors' names with the constants of their
            HOG layer; "timm" and "hf", the ViT of timm and of transformers; "torchvision", its MViTv2.

    Returns:
        Conversion: The state dict, and a row for every tensor.

    Raises:
        CheckpointError: If the target is unknown or has no such model, or the source has unknown keys.
    """
    if to not in TARGETS:
        raise CheckpointError(f"The target {to!r} is unknown; choose one of {tuple(TARGETS)}.")
    if checkpoint.unknown:
        raise CheckpointError(
            f"{checkpoint.source} ({checkpoint.format.title}) has unknown keys: "
            f"{', '.join(names.collapse(checkpoint.unknown))}. Remove them, or load it with maskfeat.Pretrained, "
            "which ignores them."
        )
    target = TARGETS[to](checkpoint)
    state: dict[str, Tensor] = {}
    rows: list[Row] = []
    weights = fold_layer_scale(checkpoint.state, {name for name in checkpoint.state if target.rename(name)})
    for name, old in checkpoint.state.items():
        source = " + ".join(checkpoint.origins.get(name, (name,)))
        if name not in weights:
            rows.append(Row(source, None, tuple(old.shape), "multiplied into the layer before it"))
            continue
        value, new = weights[name], target.rename(name)
        pieces = {} if new is None else target.pieces(new, value)
        state.update(pieces)
        rows.extend(Row(source, piece, tuple(part.shape)) for piece, part in pieces.items())
        if new is None:
            rows.append(Row(source, None, tuple(value.shape), target.why_left_out))
    rows.extend(Row(name, None, (), reason) for name, reason in checkpoint.dropped.items())
    for name, value in target.made.items():
        state[name] = value
        rows.append(Row("-", name, tuple(value.shape), "constant of the HOG target"))
    if not any(row.target for row in rows):
        raise CheckpointError(f"{checkpoint.source} has no weights that {to!r} has a name for.")
    return Conversion(state, rows)


def _maskfeat(checkpoint: Checkpoint) -> Target:
    return Target(lambda name: name)


def _mmpretrain(checkpoint: Checkpoint) -> Target:
    if checkpoint.family != "vit":
        raise CheckpointError(
            f"{checkpoint.source} holds an MViT of clips, which mmpretrain lacks; convert it to 'mmaction2' "
            "or 'maskfeat'."
        )
    return _plain(names.OPENMMLAB_VIT)


def _mmaction2(checkpoint: Checkpoint) -> Target:
    if checkpoint.family != "mvit":
        raise CheckpointError(
            f"{checkpoint.source} holds a ViT of images; convert it to 'mmpretrain' or 'maskfeat'. To start a model of "
            "clips from it set init_cfg=dict(type='maskfeat.Pretrained', ...), which inflates it."
        )
    return _plain(names.OPENMMLAB_MVIT)


def _plain(table: NameTable) -> Target:
    def rename(name: str) -> str | None:
        if not name.startswith("backbone.") or name == "backbone.mask_token":
            return None
        return table.from_canonical(name)

    return Target(rename, "the plain backbone has no such parameter")


def _slowfast(checkpoint: Checkpoint) -> Target:
    pretrain = checkpoint.task == PRETRAIN
    made = _hog_constants() if pretrain else {}
    if checkpoint.family == "mvit":
        table = names.slowfast_mvit(checkpoint.task, checkpoint.last_scale or 0)
        why = "an inner scale's norm, which PySlowFast lacks"
    else:
        table = names.SLOWFAST_VIT_PRETRAIN if pretrain else names.SLOWFAST_VIT_FINETUNE
        why = "PySlowFast has one final norm"
    return Target(table.from_canonical, why, made)


def _hog_constants() -> dict[str, Tensor]:
    """Return the buffers of the authors' HOG layer: Sobel kernels of the three colour channels."""
    kernel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    x = kernel.expand(3, 1, 3, 3)
    return {
        "hogs.0.weight_x": x.contiguous(),
        "hogs.0.weight_y": x.transpose(2, 3).contiguous(),
    }


TARGETS: dict[str, Callable[[Checkpoint], Target]] = {
    "maskfeat": _maskfeat,
    "mmpretrain": _mmpretrain,
    "mmaction2": _mmaction2,
    "slowfast": _slowfast,
    "timm": libraries.timm,
    "hf": libraries.hf,
    "torchvision": libraries.torchvision,
}


def write_checkpoint(checkpoint: Checkpoint, path: str | Path, to: str, source: Path | None = None) -> Conversion:
    """Convert and write a checkpoint. The file appears only when it is complete.

    Args:
        checkpoint (Checkpoint): The weights.
        path (str | Path): File to write; its folder must exist. If the name ends in ``.safetensors``, a safetensors
            file with bare tensors is written, otherwise a file of torch.save.
        to (str): One of :data:`TARGETS`.
        source (Path, optional): The file that the weights were read from, to store its hash. Defaults to None: no hash.

    Returns:
        Conversion: The tensors that were written, and a row for each.

    Raises:
        CheckpointError: As :func:`convert`, or if the output would replace the source.
        FileNotFoundError: If the folder does not exist.
        WriteError: If the file cannot be written, as on a full disk.
    """
    conversion = convert(checkpoint, to)
    path = Path(path)
    if source and path.resolve() == source.resolve():
        raise CheckpointError(f"{path} is the source itself; give the output another name.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} of the output does not exist; make it.")
    block = dict(
        version=__version__,
        source=Path(checkpoint.source).name,
        sha256=sha256(shard_files(source) if source.is_dir() else [source]) if source else None,
        source_format=checkpoint.format.name,
        task=checkpoint.task,
        target=to,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    # clones, because saving a view would write its whole storage
    state = {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in conversion.state.items()
    }
    content = {
        "model_state" if to == "slowfast" else "state_dict": state,
        "meta": {"maskfeat_plugin": block},
    }
    with writing(path) as unfinished:
        if is_safetensors(path):
            write_tensors(unfinished, state, block)
        else:
            with open(unfinished, "wb") as file:
                torch.save(content, file)
    return replace(conversion, block=block)
