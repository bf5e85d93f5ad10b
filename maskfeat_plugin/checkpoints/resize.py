"""Functions that fit single tensors to a model of another size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskfeat_plugin.ops.grids import Grid

INFLATIONS = ("mean", "center")


def resize_relative_positions(table: Tensor, length: int) -> Tensor:
    """Resize a table of relative positions along its length, as the authors' loader does.

    Args:
        table (Tensor): (2n-1, C), positions from -(n-1) to n-1 on one axis.
        length (int): The new length.

    Returns:
        Tensor: (length, C), linearly interpolated without aligned corners.
    """
    columns = table.t().unsqueeze(0).float()  # (1, C, 2n-1)
    return F.interpolate(columns, size=length, mode="linear").squeeze(0).t().to(table.dtype)


def resize_absolute_positions(embedding: Tensor, source: Grid, target: Grid, target_extra: Tensor) -> Tensor:
    """Resize an absolute position embedding to another token grid.

    Positions of images are resized bicubically as in mmpretrain, of clips trilinearly as in mmaction2. Positions of an
    image that initialize a clip's are repeated over time.

    Args:
        embedding (Tensor): (1, [1+] T*H*W, C), with the class token's position first if there is one.
        source (Grid): Grid (T, H, W) of the embedding, T = 1 for an image.
        target (Grid): The new grid.
        target_extra (Tensor): (1, E, C). If the result needs a class token (E = 1), the values to use if ``embedding``
            has none. An empty tensor (E = 0) if the result needs none.

    Returns:
        Tensor: (1, E + T*H*W, C).

    Raises:
        ValueError: If the length does not fit the source grid, or the positions are a clip's and the target an image.
    """
    extra = embedding.shape[1] - math.prod(source)
    if extra not in (0, 1):
        raise ValueError(f"{embedding.shape[1]} positions do not make the grid {source}")
    if source[0] != target[0] and target[0] == 1:
        raise ValueError(f"positions of a clip {source} cannot initialize positions of an image {target}")
    dtype = embedding.dtype
    patches = embedding[:, extra:].float()  # (1, T*H*W, C)
    if source[0] == 1:
        from mmpretrain.models.utils import resize_pos_embed as resize_image_positions  # takes seconds

        patches = resize_image_positions(patches, source[1:], target[1:], num_extra_tokens=0)
        patches = patches.repeat(1, target[0], 1)  # (1, H*W, C) -> (1, T*H*W, C)
    else:
        from mmaction.models.backbones.mvit import resize_pos_embed as resize_clip_positions  # takes seconds

        patches = resize_clip_positions(patches, source, target, num_extra_tokens=0)
    first = embedding[:, :extra] if extra == target_extra.shape[1] else target_extra
    return torch.cat((first.to(patches), patches), dim=1).to(dtype)


def infer_grid(length: int, time_steps: int = 1) -> Grid | None:
    """Infer the grid of an absolute position embedding of a square input.

    Args:
        length (int): Number of positions, with or without a class token's.
        time_steps (int): T. Defaults to 1, an image.

    Returns:
        Grid | None: (T, H, H), or None if the length is no square, with or without class token.
    """
    for patches in (length - 1, length):
        side = math.isqrt(max(patches, 0) // time_steps)
        if side and time_steps * side * side == patches:
            return time_steps, side, side
    return None


def inflate_kernel(kernel: Tensor, depth: int, how: str = "mean") -> Tensor:
    """Build the patch embedding of a video model from the patch embedding of an image model.

    With both methods, a clip of equal frames gets the tokens of the image.

    Args:
        kernel (Tensor): (C, 3, h, w).
        depth (int): Number of frames that the new kernel covers.
        how (str): "mean" spreads the kernel evenly over the frames (Carreira and Zisserman, CVPR 2017). "center" puts
            it on the middle frame and zeros on the others. Defaults to "mean".

    Returns:
        Tensor: (C, 3, depth, h, w).

    Raises:
        ValueError: If ``how`` is unknown.
    """
    if how == "mean":
        return kernel.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
    if how == "center":
        out = kernel.new_zeros(*kernel.shape[:2], depth, *kernel.shape[2:])
        out[:, :, depth // 2] = kernel
        return out
    raise ValueError(f"inflate={how!r} is unknown; choose one of {INFLATIONS}.")


def adapt_channels(kernel: Tensor, channels: int) -> tuple[Tensor, str]:
    """Build the patch embedding for other channels from a patch embedding for RGB, as timm does.

    Args:
        kernel (Tensor): (C, 3, h, w) or (C, 3, t, h, w).
        channels (int): Number of channels of the new inputs.

    Returns:
        tuple[Tensor, str]: The kernel with the new number of channels, and a description. One channel gets the sum over
        RGB, so that a grey image gets the tokens that it had as RGB. More channels get R, G, B, R, ..., times
        3 / channels, so that tokens keep their scale.

    Raises:
        ValueError: If the kernel does not have 3 channels.
    """
    if kernel.shape[1] != 3:
        raise ValueError(
            f"only weights of 3 channels are adapted to {channels}, but these have {kernel.shape[1]}; set "
            f"backbone.in_channels={kernel.shape[1]}"
        )
    if channels == 1:
        return kernel.float().sum(1, keepdim=True).to(kernel.dtype), "1 channel is the sum over RGB"
    times = -(-channels // 3)
    repeated = kernel.float().repeat(1, times, *(1,) * (kernel.dim() - 2))[:, :channels]
    way = f"{channels} channels repeat RGB, times 3/{channels}"
    return (repeated * (3 / channels)).to(kernel.dtype), way
