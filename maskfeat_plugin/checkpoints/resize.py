"""Fitting single tensors to a model of another size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskfeat_plugin.ops.grids import Grid

INFLATIONS = ("mean", "center")


def resize_relative_positions(table: Tensor, length: int) -> Tensor:
    """Resize a table of relative positions along its length, as the authors' loader does.

    Args:
        table (Tensor): (2n-1, C), positions from -(n-1) to n-1 in one axis.
        length (int): The length wanted.

    Returns:
        Tensor: (length, C), linearly interpolated without aligned corners.
    """
    columns = table.t().unsqueeze(0).float()  # (1, C, 2n-1)
    return F.interpolate(columns, size=length, mode="linear").squeeze(0).t().to(table.dtype)


def resize_absolute_positions(embedding: Tensor, source: Grid, target: Grid, target_extra: Tensor) -> Tensor:
    """Resize an absolute position embedding to another token grid.

    Images are resized bicubically by mmpretrain, clips trilinearly by mmaction2. Positions of an image that start a
    clip's are repeated over time.

    Args:
        embedding (Tensor): (1, [1+] T*H*W, C), a class token's first if there is one.
        source (Grid): Its grid (T, H, W), T = 1 for an image.
        target (Grid): The grid wanted.
        target_extra (Tensor): (1, E, C): the values for the class token that the result is to have (E = 1) where
            ``embedding`` has none; an empty one (E = 0) if it is to have none.

    Returns:
        Tensor: (1, E + T*H*W, C).

    Raises:
        ValueError: If the length is not that of the source grid, or a clip's positions are wanted for an image.
    """
    extra = embedding.shape[1] - math.prod(source)
    if extra not in (0, 1):
        raise ValueError(f"{embedding.shape[1]} positions do not make the grid {source}")
    if source[0] != target[0] and target[0] == 1:
        raise ValueError(f"positions of a clip {source} are no start for those of an image {target}")
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
    """Grid of an absolute position embedding of a square input.

    Args:
        length (int): Number of positions, a class token's included.
        time_steps (int): T. Defaults to 1, an image.

    Returns:
        Grid | None: (T, H, H), or None if the length makes no square, with or without class token.
    """
    for patches in (length - 1, length):
        side = math.isqrt(max(patches, 0) // time_steps)
        if side and time_steps * side * side == patches:
            return time_steps, side, side
    return None


def inflate_kernel(kernel: Tensor, depth: int, how: str = "mean") -> Tensor:
    """Make the patch embedding of a video model from that of an image model.

    Either way a clip whose frames are all the same image gets that image's tokens.

    Args:
        kernel (Tensor): (C, 3, h, w).
        depth (int): Frames that the new kernel covers.
        how (str): "mean" spreads the kernel evenly over the frames (Carreira and Zisserman, CVPR 2017); "center" puts
            it on the middle frame, the others get zeros. Defaults to "mean".

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
    """Make the patch embedding of other inputs from that of RGB, as timm does.

    Args:
        kernel (Tensor): (C, 3, h, w) or (C, 3, t, h, w).
        channels (int): Channels of the new inputs.

    Returns:
        tuple[Tensor, str]: The kernel with so many channels, and what was done. One channel gets the sum over RGB, so
        that a grey image gets the tokens that it had as RGB. More get R, G, B, R, ..., times 3 / channels, so that
        tokens keep their scale.

    Raises:
        ValueError: If the kernel is not one of 3 channels.
    """
    if kernel.shape[1] != 3:
        raise ValueError(
            f"only weights of 3 channels are adapted to {channels}, these have {kernel.shape[1]}; set "
            f"backbone.in_channels={kernel.shape[1]}"
        )
    if channels == 1:
        return kernel.float().sum(1, keepdim=True).to(kernel.dtype), "1 channel is the sum over RGB"
    times = -(-channels // 3)
    repeated = kernel.float().repeat(1, times, *(1,) * (kernel.dim() - 2))[:, :channels]
    way = f"{channels} channels repeat RGB, times 3/{channels}"
    return (repeated * (3 / channels)).to(kernel.dtype), way
