"""Features of a network on the token grid, from any form of output."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..utils import TokenPlaces, frames_of_tokens, token_size


def feature_map(output: Any, key: str, layer: int = -1, grid: tuple[int, int] | None = None) -> Tensor:
    """Find the feature map in the output of a backbone.

    Args:
        output (Any): A tensor, or a sequence with one output per layer, each a tensor or a sequence of a map and
            tokens. Maps are (N, C, h, w) or (N, C, t, h, w). Tokens (N, L, C) may have a class token or other extra
            tokens before the tokens of the grid.
        key (str): Name of the argument that configures the network, for messages.
        layer (int): Index of the output in a sequence. Defaults to -1, the last.
        grid (tuple[int, int], optional): Grid (h, w) of tokens (N, L, C). Defaults to None: the largest square that L
            tokens can fill.

    Returns:
        Tensor: (N, C, h, w) or (N, C, t, h, w).

    Raises:
        ValueError: If the layer does not exist or the output has no grid.
    """
    if isinstance(output, tuple | list):
        if not -len(output) <= layer < len(output):
            raise ValueError(
                f"{key} gives the outputs of {len(output)} layers, layer={layer} is none of them; set "
                f"it to {-len(output)} to {len(output) - 1}, or let the network return more (out_indices, out_scales)."
            )
        output = output[layer]
    tensors = [output] if isinstance(output, Tensor) else [x for x in output if isinstance(x, Tensor)]
    for tensor in tensors:
        if tensor.dim() in (4, 5):
            return tensor
    for tensor in tensors:
        if tensor.dim() == 3:
            height, width = grid or (isqrt(tensor.shape[1]),) * 2
            if tensor.shape[1] < height * width:
                raise ValueError(
                    f"{key} gives {tensor.shape[1]} tokens for a grid of {height} x {width}; set stride to the patch "
                    "size of the network."
                )
            return tensor[:, -height * width :].mT.unflatten(2, (height, width))  # (N, L, C) -> (N, C, h, w)
    raise ValueError(
        f"{key} gives {[tuple(x.shape) for x in tensors]}, which has no grid to map onto the token grid; make it "
        "return a feature map: for a ViT set out_type='featmap', for others use a backbone without pooling."
    )


def fit_to_grid(features: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Resize a feature map to a token grid: by averages if the grid divides its size, else by linear interpolation.

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
    """Raise one clear error if a network takes images but gets clips, or the reverse.

    The type of its first convolution decides.

    Args:
        network (nn.Module): The network.
        input_type (str): "image" or "clip".
        key (str): Name of the argument that configures the network, for messages.

    Raises:
        ValueError: If ``input_type`` is unknown or does not fit the network.
    """
    kinds = {"image": nn.Conv2d, "clip": nn.Conv3d}
    if input_type not in kinds:
        raise ValueError(f"input_type={input_type!r} is unknown; choose 'image' or 'clip'.")
    first = next((m for m in network.modules() if isinstance(m, tuple(kinds.values()))), None)
    if first is not None and not isinstance(first, kinds[input_type]):
        other = next(name for name, kind in kinds.items() if isinstance(first, kind))
        raise ValueError(
            f"{key} ({type(network).__name__}) takes {other}s, but input_type={input_type!r}; set input_type={other!r}."
        )


def masked_features(
    backbone: Callable[[Tensor], object],
    inputs: Tensor,
    mask: Tensor,
    key: str,
    input_type: str = "image",
    places: TokenPlaces | None = None,
) -> Tensor:
    """Compute the last features of the masked tokens, see :func:`masked_layers`."""
    return masked_layers(backbone, inputs, mask, key, input_type, places=places)[0]


def masked_layers(
    backbone: Callable[[Tensor], object],
    inputs: Tensor,
    mask: Tensor,
    key: str,
    input_type: str = "image",
    layers: Sequence[int] = (-1,),
    stride: int | None = None,
    places: TokenPlaces | None = None,
) -> list[Tensor]:
    """Compute the features of the masked tokens with a network that sees the whole, unmasked input.

    Args:
        backbone (Callable): Function from images or clips to an output that :func:`feature_map` accepts.
        inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W), normalised for the network.
        mask (Tensor): bool (N, T', H', W').
        key (str): Name of the argument that configures the network, for messages.
        input_type (str): With "image" the network gets the first frame of every token, one by one; with "clip" it gets
            whole clips. Defaults to "image". Without ``places``, frames or clips without a masked token are left out.
        layers (Sequence[int]): Indices of the network's outputs to use. Defaults to (-1,), the last.
        stride (int, optional): Side of the network's tokens in pixels. Images are resized so that its grid is the token
            grid. Defaults to None: they keep their size.
        places (TokenPlaces, optional): The masked tokens, if all samples mask equally many. Defaults to None: the host
            waits for the mask.

    Returns:
        list[Tensor]: For each layer float32 (M, D).

    Raises:
        ValueError: If the mask's grid does not fit the inputs, or the output has no grid.
    """
    frames_per_token, _, _ = token_size(inputs, mask)
    if input_type == "image":
        inputs = frames_of_tokens(inputs, frames_per_token).flatten(0, 1)  # (N*T', C, H, W)
        mask = mask.flatten(0, 1)  # (N*T', H', W')
    elif inputs.dim() != 5:
        raise ValueError(
            f"{key} wants clips (input_type='clip'), but the inputs are images {tuple(inputs.shape)}; set "
            "input_type='image'."
        )
    masked: Tensor | tuple[Tensor, ...]
    if places is None:
        asked = mask.flatten(1).any(1)
        if not asked.any():  # no token is masked: run one input, to get the number of channels
            asked[0] = True
        inputs, masked = inputs[asked], mask[asked]
    else:
        masked = places.in_frames() if input_type == "image" else places.on_grid()
    grid = (mask.shape[-2], mask.shape[-1]) if stride else None
    if stride and inputs.shape[-2:] != (size := (mask.shape[-2] * stride, mask.shape[-1] * stride)):
        inputs = F.interpolate(inputs, size, mode="bicubic", antialias=True, align_corners=False)
    output = backbone(inputs)
    tokens = tuple(mask.shape[1:])
    return [_on_tokens(feature_map(output, key, layer, grid), inputs, tokens, key)[masked].float() for layer in layers]


def _on_tokens(features: Tensor, inputs: Tensor, grid: tuple[int, ...], key: str) -> Tensor:
    """Map features of a network onto the token grid (H', W') or (T', H', W'): (B, *grid, D)."""
    square = inputs.shape[-2] == inputs.shape[-1]
    if square and features.dim() == 4 and features.shape[1] == features.shape[2] != features.shape[3]:
        features = features.movedim(-1, 1)  # timm's Swin gives (N, h, w, C)
    if features.dim() != len(grid) + 2:
        raise ValueError(
            f"{key} gives features {tuple(features.shape)}, which cannot be mapped onto the token grid {grid}. Make it "
            "return a feature map: (N, C, h, w) of images, (N, C, t, h, w) of clips."
        )
    return fit_to_grid(features, grid).movedim(1, -1)
