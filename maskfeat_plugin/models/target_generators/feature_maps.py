"""Features of a network on the token grid, whatever form its output has."""

from collections.abc import Callable
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..utils import frames_of_tokens, token_size


def feature_map(output: Any, key: str, layer: int = -1) -> Tensor:
    """Find the feature map in what a backbone returns.

    Args:
        output (Any): A tensor or a sequence of one output a layer, each a tensor or a sequence of a map and tokens.
            Maps are (N, C, h, w) or (N, C, t, h, w); tokens (N, L, C) are taken for a square grid, with a class token
            (and others) before it or not.
        key (str): Name of the argument that configures the network, for messages.
        layer (int): Which of a sequence. Defaults to -1, the last.

    Returns:
        Tensor: (N, C, h, w) or (N, C, t, h, w).

    Raises:
        ValueError: If there is no such layer or no grid.
    """
    if isinstance(output, tuple | list):
        if not -len(output) <= layer < len(output):
            raise ValueError(
                f"{key} gives the outputs of {len(output)} layers, layer={layer} is none of them; set "
                f"it to {-len(output)} to {len(output) - 1}, or let the network give more (out_indices, out_scales)."
            )
        output = output[layer]
    tensors = [output] if isinstance(output, Tensor) else [x for x in output if isinstance(x, Tensor)]
    for tensor in tensors:
        if tensor.dim() in (4, 5):
            return tensor
    for tensor in tensors:
        if tensor.dim() == 3:
            side = isqrt(tensor.shape[1])
            return tensor[:, -side * side :].mT.unflatten(2, (side, side))  # (N, L, C) -> (N, C, h, w)
    raise ValueError(
        f"{key} gives {[tuple(x.shape) for x in tensors]}, which has no grid to map onto the token grid; let it give a "
        "feature map: out_type='featmap' for a ViT, a backbone without pooling for others."
    )


def fit_to_grid(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Resize a feature map to a token grid: means where the grid divides it, else linear interpolation.

    Args:
        features (Tensor): (N, C, h, w) or (N, C, t, h, w).
        grid (tuple[int, ...]): (H', W') or (T', H', W').

    Returns:
        Tensor: (N, C, *grid).
    """
    size = tuple(features.shape[2:])
    if size == grid:
        return features
    if all(s % g == 0 for s, g in zip(size, grid, strict=True)):
        pool = F.avg_pool2d if len(grid) == 2 else F.avg_pool3d
        return pool(features, tuple(s // g for s, g in zip(size, grid, strict=True)))
    mode = "bilinear" if len(grid) == 2 else "trilinear"
    return F.interpolate(features, grid, mode=mode, align_corners=False)


def check_input_type(network: nn.Module, input_type: str, key: str) -> None:
    """Raise one clear error for a network that takes images where clips come, or the reverse.

    Its first convolution tells.

    Args:
        network (nn.Module): The network.
        input_type (str): "image" or "clip".
        key (str): Name of the argument that configures it, for messages.

    Raises:
        ValueError: If ``input_type`` is neither or is not the network's.
    """
    kinds = {"image": nn.Conv2d, "clip": nn.Conv3d}
    if input_type not in kinds:
        raise ValueError(f"input_type={input_type!r} is unknown; choose 'image' or 'clip'.")
    first = next((m for m in network.modules() if isinstance(m, tuple(kinds.values()))), None)
    if first is not None and not isinstance(first, kinds[input_type]):
        other = next(name for name, kind in kinds.items() if isinstance(first, kind))
        raise ValueError(
            f"{key} ({type(network).__name__}) takes {other}s, input_type={input_type!r}; set input_type={other!r}."
        )


def masked_features(
    backbone: Callable[[Tensor], object],
    inputs: Tensor,
    mask: Tensor,
    key: str,
    input_type: str = "image",
    layer: int = -1,
) -> Tensor:
    """Features of the masked tokens by a network that sees the whole, unmasked input.

    Args:
        backbone (Callable): From images or clips to what :func:`feature_map` takes.
        inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W), normalised as the network wants.
        mask (Tensor): bool (N, T', H', W').
        key (str): Name of the argument that configures the network, for messages.
        input_type (str): "image": the network sees every token's first frame, one by one; "clip": whole clips. Defaults
            to "image". What has no masked token it does not see.
        layer (int): Which output of the network. Defaults to -1, the last.

    Returns:
        Tensor: float32 (M, D).

    Raises:
        ValueError: If the mask's grid does not fit the inputs, or the output has no grid.
    """
    frames_per_token, _, _ = token_size(inputs, mask)
    if input_type == "image":
        inputs = frames_of_tokens(inputs, frames_per_token).flatten(0, 1)  # (N*T', C, H, W)
        mask = mask.flatten(0, 1)  # (N*T', H', W')
    elif inputs.dim() != 5:
        raise ValueError(
            f"{key} wants clips (input_type='clip'), the inputs are images {tuple(inputs.shape)}; set "
            "input_type='image'."
        )
    asked = mask.flatten(1).any(1)
    if not asked.any():  # nothing to see; the number of channels is that of an input
        asked[0] = True
    features = feature_map(backbone(inputs[asked]), key, layer)
    square = inputs.shape[-2] == inputs.shape[-1]
    if square and features.dim() == 4 and features.shape[1] == features.shape[2] != features.shape[3]:
        features = features.movedim(-1, 1)  # timm's Swin gives (N, h, w, C)
    if features.dim() != mask.dim() + 1:
        raise ValueError(
            f"{key} gives features {tuple(features.shape)}, which cannot be mapped onto the token grid "
            f"{tuple(mask.shape[1:])}; let it give a feature map (N, C, h, w) of images, (N, C, t, h, w) of clips."
        )
    return fit_to_grid(features, tuple(mask.shape[1:])).movedim(1, -1)[mask[asked]].float()
