"""Loading of a checkpoint's weights into a model, with resizing if the model has another size."""

import math
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from maskfeat_plugin.ops.grids import Grid

from .errors import CheckpointError
from .formats import PRETRAIN, Format, recognise
from .layer_scale import fold_layer_scale
from .names import collapse, inner_name
from .reader import Checkpoint
from .resize import (
    INFLATIONS,
    adapt_channels,
    infer_grid,
    inflate_kernel,
    resize_absolute_positions,
    resize_relative_positions,
)

_NEW_NORM = "final norm of pre-training, at another place than the model's"
_PATCHES = "backbone.patch_embed.projection.weight"
_POSITIONS = "backbone.pos_embed"
_OTHER_SCALE = "norm of a scale that is not the model's last"


@dataclass
class LoadReport:
    """Report of a checkpoint that was loaded into a model: for every weight, whether it was loaded, resized or ignored.

    Attributes:
        source: File or URL of the checkpoint.
        format: Title of the checkpoint's format.
        found: Share of the backbone's parameters that were found, by the number of their values.
        loaded: The model's names of the parameters that were loaded without a change.
        resized: The model's name -> shape in the checkpoint and in the model.
        adapted: The model's name, also in ``resized`` -> how the RGB weights were adapted to other channels.
        initial: The model's names of parameters that keep their initialization.
        ignored: Name in the checkpoint -> the reason why it was not used.
    """

    source: str
    format: str
    found: float = 0.0
    loaded: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    adapted: dict[str, str] = field(default_factory=dict)
    initial: list[str] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Format the report as a summary for the log."""
        changes: dict[str, list[str]] = {}
        for name, (old, new) in self.resized.items():
            changes.setdefault(f"{old} -> {new}", []).append(name)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.ignored.items():
            reasons.setdefault(reason, []).append(name)
        ways: dict[str, list[str]] = {}
        for name, way in self.adapted.items():
            ways.setdefault(way, []).append(name)
        lines = [
            f"Weights of {self.source} ({self.format}), {self.found:.1%} of the backbone's parameters found:",
            f"  loaded: {len(self.loaded)} tensors",
            *_section("resized", self.resized, changes),
            *(_section("adapted to other channels", self.adapted, ways) if ways else ()),
            *_section("left at initialization", self.initial, {"": self.initial}),
            *_section("ignored", self.ignored, reasons),
        ]
        return "\n".join(lines)


def _section(title: str, names: list | dict, groups: dict[str, list[str]]) -> list[str]:
    if not names:
        return [f"  {title}: none"]
    lines = [f"  {title}: {len(names)} tensors"]
    for what, members in groups.items():
        listed = ", ".join(collapse(members))
        lines.append(f"    {listed}{': ' if what else ''}{what}")
    return lines


def load_into(
    model: nn.Module,
    checkpoint: Checkpoint,
    *,
    min_found: float = 0.95,
    inflate: str = "mean",
    position_grid: tuple[int, ...] | None = None,
) -> LoadReport:
    """Load weights into a model or a backbone.

    Relative and absolute positions are resized. The patch embedding of an image model is inflated for a model of clips.
    An RGB patch embedding is adapted to another number of channels, see :func:`adapt_channels`.
    The final norm of pre-training belongs to the prediction. It is loaded if the model has a norm at the same place
    (tokens of the same last scale). It is ignored if the model's norm follows mean pooling or another scale.

    Args:
        model (nn.Module): A backbone whose names :func:`recognise` knows (``maskfeat.MaskedViT``, ``maskfeat.MViT``,
            ``mmpretrain.VisionTransformer``, ``mmaction.MViT``, ``mmaction.VisionTransformer`` and their subclasses),
            or a model with such a ``backbone``. It is changed in place.
        checkpoint (Checkpoint): The weights. They are not changed.
        min_found (float): Smallest allowed share of the backbone's parameters, by the number of their values, that
            were found. Defaults to 0.95.
        inflate (str): "mean" or "center", see :func:`inflate_kernel`. Defaults to "mean".
        position_grid (tuple[int, ...], optional): Grid (H, W) or (T, H, W) of the checkpoint's absolute positions
            if it is not square or unknown. Defaults to None.

    Returns:
        LoadReport: The names of the parameters that were loaded, resized, left at initialization and ignored.

    Raises:
        CheckpointError: If the model's names are not known, or less than ``min_found`` was found. Then the model is
            unchanged.
    """
    if inflate not in INFLATIONS:
        raise CheckpointError(f"init_cfg.inflate={inflate!r} is unknown; choose one of {INFLATIONS}.")
    targets = model.state_dict(keep_vars=True)
    form = recognise(targets.keys(), f"the model {type(model).__name__}")
    if form.family != checkpoint.family:
        raise CheckpointError(
            f"{checkpoint.source} holds a {checkpoint.format.title}, but the model {type(model).__name__} "
            f"is of the family {form.family!r}; no weights of one fit the other."
        )
    layer = re.compile(r"(module\.)?(backbone\.|vit\.)?(blocks|layers|encoder\.layer)\.\d+\.")
    layers = [key for key in checkpoint.unknown if layer.match(key)]
    if layers:
        raise CheckpointError(
            f"{checkpoint.source} ({checkpoint.format.title}) has parts in its layers that the models here lack: "
            f"{', '.join(collapse(layers))}. Without them the model would compute something else; give weights of a "
            "plain model."
        )
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        backbone = model
    wanted = _canonical_names(form, targets)
    report = LoadReport(checkpoint.source, checkpoint.format.title)
    report.ignored.update(checkpoint.dropped)
    report.ignored.update(dict.fromkeys(checkpoint.unknown, "its format has no such parameter"))

    state = _place_final_norm(checkpoint, backbone, wanted, report)
    state = fold_layer_scale(_split_biases(state, wanted), wanted)
    values: dict[str, Tensor] = {}
    for name, value in state.items():
        origin = _origin(checkpoint, name)
        if name not in wanted:
            report.ignored[origin] = _why_unwanted(name)
            continue
        key = wanted[name]
        target = targets[key]
        if value.shape == target.shape and not (
            name == _POSITIONS and _is_other_grid(value, backbone, checkpoint, position_grid)
        ):
            values[key] = value
            report.loaded.append(key)
            continue
        try:
            fitted = value
            if name == _PATCHES and value.shape[1] != target.shape[1]:
                fitted, report.adapted[key] = adapt_channels(value, target.shape[1])
            if fitted.shape != target.shape or name == _POSITIONS:
                fitted = _resize(name, fitted, target, backbone, checkpoint, inflate, position_grid)
            values[key] = fitted
            report.resized[key] = (tuple(value.shape), tuple(target.shape))
        except ValueError as error:
            report.adapted.pop(key, None)
            report.ignored[origin] = f"{tuple(value.shape)} does not fit the model's {tuple(target.shape)}: {error}"
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    report.initial = [key for key in parameters if key not in values]
    report.found = _share_found(parameters, values, in_model=backbone is not model)
    if report.found < min_found:
        raise CheckpointError(
            f"Only {report.found:.1%} of the parameters of the backbone {type(backbone).__name__} were found, less "
            f"than min_found={min_found:.1%}; give the backbone the architecture of the checkpoint, or set "
            f"init_cfg.min_found.\n{report}"
        )
    with torch.no_grad():
        for key, value in values.items():
            targets[key].copy_(value)
    return report


def _canonical_names(form: Format, keys: dict[str, Tensor]) -> dict[str, str]:
    """Map canonical names to the model's names, for all keys that have a canonical name."""
    table = form.names()
    names = {table.to_canonical(inner_name(key)): key for key in keys}
    return {name: key for name, key in names.items() if name is not None}


def _origin(checkpoint: Checkpoint, name: str) -> str:
    """Return the name in the file of the weight with a canonical name."""
    return " + ".join(checkpoint.origins.get(name, (name,)))


def _why_unwanted(name: str) -> str:
    if name.startswith("neck."):
        return "prediction layer of pre-training, which the model lacks"
    if name == "backbone.mask_token":
        return "mask token of pre-training, which the model lacks"
    if name.startswith(("head.", "cls_head.")):
        return "classifier, which the model lacks"
    return "the model has no such parameter"


def _share_found(parameters: dict[str, Tensor], values: dict[str, Tensor], in_model: bool) -> float:
    if in_model:
        parameters = {k: v for k, v in parameters.items() if k.startswith("backbone.")}
    else:
        outside = ("neck.", "head.", "cls_head.")
        parameters = {k: v for k, v in parameters.items() if not k.startswith(outside)}
    total = sum(v.numel() for v in parameters.values())
    return sum(v.numel() for k, v in parameters.items() if k in values) / max(total, 1)


def _place_final_norm(
    checkpoint: Checkpoint, backbone: nn.Module, wanted: dict[str, str], report: LoadReport
) -> dict[str, Tensor]:
    """Return the weights with the final norm under the model's name, or without it if the model has no such norm."""
    state = dict(checkpoint.state)
    masked = "backbone.mask_token" in wanted
    if checkpoint.family == "vit":
        # ln1 follows the tokens and ln2 the pooling, so the names determine the place
        if checkpoint.task == PRETRAIN and "backbone.ln1.weight" not in wanted:
            _ignore_norm(state, "backbone.ln1", checkpoint, report)
        return state
    scale = checkpoint.last_scale
    last = getattr(backbone, "num_scales", 0) - 1
    if scale is None or last < 0:
        return state
    norm, place = f"backbone.norm{scale}", f"backbone.norm{last}"
    pooled = getattr(backbone, "out_type", "featmap") == "avg_featmap" and not masked
    elsewhere = checkpoint.task == PRETRAIN and not masked and (scale != last or pooled)
    # the name of PySlowFast's final norm does not contain its scale, and a masked model also has one final norm
    same_place = scale == last or masked or checkpoint.format.project == "slowfast"
    if elsewhere or not same_place:
        _ignore_norm(state, norm, checkpoint, report)
    elif scale != last:
        for p in ("weight", "bias"):
            state[f"{place}.{p}"] = state.pop(f"{norm}.{p}")
    return state


def _ignore_norm(state: dict[str, Tensor], norm: str, checkpoint: Checkpoint, report: LoadReport) -> None:
    for p in ("weight", "bias"):
        if state.pop(f"{norm}.{p}", None) is not None:
            reason = _NEW_NORM if checkpoint.task == PRETRAIN else _OTHER_SCALE
            report.ignored[_origin(checkpoint, f"{norm}.{p}")] = reason


def _split_biases(state: dict[str, Tensor], wanted: dict[str, str]) -> dict[str, Tensor]:
    """Split biases for a model without a key bias. The key bias adds the same to all logits, which has no effect."""
    out = dict(state)
    for name in wanted:
        attn, dot, part = name.rpartition(".")
        fused = f"{attn}.qkv.bias"
        if part in ("q_bias", "v_bias") and fused in state:
            q, _, v = state[fused].chunk(3)
            out[name] = q if part == "q_bias" else v
            out.pop(fused, None)
    return out


def _resize(
    name: str,
    value: Tensor,
    target: Tensor,
    backbone: nn.Module,
    checkpoint: Checkpoint,
    inflate: str,
    position_grid: tuple[int, ...] | None,
) -> Tensor:
    """Resize a value to the shape of the target. Raise ValueError if that is not possible."""
    if ".rel_pos_" in name and value.shape[1:] == target.shape[1:]:
        return resize_relative_positions(value, len(target))
    if name == _POSITIONS and value.shape[2] == target.shape[2]:
        grid = _target_grid(backbone, target.shape[1])
        if grid is None:
            raise ValueError("the grid of the model's positions is unknown")
        source = _source_grid(value, checkpoint, grid, position_grid)
        extra = target.shape[1] - math.prod(grid)
        return resize_absolute_positions(value, source, grid, target.detach()[:, :extra])
    if name == _PATCHES:
        flat = value.dim() == 4 and target.dim() == 5
        if flat and value.shape == (*target.shape[:2], *target.shape[3:]):
            return inflate_kernel(value, target.shape[2], inflate)
    raise ValueError("this weight cannot be resized")


def _target_grid(backbone: nn.Module, length: int) -> Grid | None:
    """Return the grid of a backbone's absolute positions."""
    resolution = getattr(backbone, "patch_resolution", None) or getattr(backbone, "grid_size", None)
    if resolution is None:
        return infer_grid(length)
    if len(resolution) == 3:
        return tuple(resolution)
    steps = length // math.prod(resolution)
    return (steps, *resolution)


def _is_other_grid(value: Tensor, backbone: nn.Module, checkpoint: Checkpoint, given: tuple[int, ...] | None) -> bool:
    """Check whether positions of the model's number have another grid; if no grid is known, it is the same."""
    grid = _target_grid(backbone, value.shape[1])
    if grid is None or (given is None and checkpoint.position_grid is None):
        return False
    return _source_grid(value, checkpoint, grid, given) != tuple(grid)


def _source_grid(value: Tensor, checkpoint: Checkpoint, target: Grid, given: tuple[int, ...] | None) -> Grid:
    """Return the grid of a checkpoint's absolute positions."""
    length = value.shape[1]
    if given is not None:
        steps, rows, cols = (1, *given) if len(given) == 2 else given
        return steps, rows, cols
    told = checkpoint.position_grid
    if told is not None and length - math.prod(told) in (0, 1):
        return told
    image = checkpoint.state["backbone.patch_embed.projection.weight"].dim() == 4
    grid = infer_grid(length, 1 if image else target[0])
    if grid is None:
        raise ValueError("the grid of the checkpoint's positions is unknown; set init_cfg.position_grid")
    return grid
