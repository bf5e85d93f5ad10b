"""Max pooling of tokens frame by frame, with less memory for the backward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .grids import Grid


def max_pool_tokens(
    x: Tensor,
    grid: Grid,
    extra_tokens: int,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """Pool tokens on their grid, each frame by itself.

    The places of the maxima would take twice the memory of the maxima. They are not kept; the backward pass computes
    them again.

    Args:
        x (Tensor): Tokens (B, E+T*H*W, C) on a CPU. The E extra tokens come first and are not pooled.
        grid (Grid): (T, H, W).
        extra_tokens (int): Number E of extra tokens.
        kernel_size (tuple[int, ...]): Height and width of a window.
        stride (tuple[int, ...]): Stride in height and width.
        padding (tuple[int, ...]): Height and width of the padding with minus infinity on each side.

    Returns:
        Tensor: (B, E+T*H'*W', C).
    """
    first, x = x.split((extra_tokens, x.shape[1] - extra_tokens), dim=1)
    # (B, T*H*W, C) -> (B*T, C, H, W), channels last in memory
    frames = x.unflatten(1, grid).flatten(0, 1).permute(0, 3, 1, 2)
    pooled = _MaxPool.apply(frames, kernel_size, stride, padding)
    pooled = pooled.permute(0, 2, 3, 1).unflatten(0, (-1, grid[0])).flatten(1, 3)  # (B, T*H'*W', C)
    return torch.cat((first, pooled), dim=1)


class _MaxPool(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel_size: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings = (kernel_size, stride, padding)
        return F.max_pool2d(x, kernel_size, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        _, places = F.max_pool2d(x, *ctx.settings, return_indices=True)
        grad_x = torch.ops.aten.max_pool2d_with_indices_backward(grad, x, *ctx.settings, [1, 1], False, places)
        return grad_x, None, None, None
