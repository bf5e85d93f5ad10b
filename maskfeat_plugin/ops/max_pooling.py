"""Max pooling of tokens frame by frame, whose places are found again in the backward pass."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .gate import may_bypass

Grid = tuple[int, int, int]


def pools_frames(pool: nn.Module) -> bool:
    """Tell whether :func:`max_pool_tokens` may compute a pooling layer: one that pools each frame by itself."""
    if not may_bypass((pool, nn.MaxPool3d)) or (pool.dilation, pool.ceil_mode, pool.return_indices) != (
        1,
        False,
        False,
    ):
        return False
    sizes = (pool.kernel_size, pool.stride, pool.padding)
    return all(isinstance(axes, list | tuple) for axes in sizes) and [axes[0] for axes in sizes] == [1, 1, 0]


def max_pool_tokens(x: Tensor, pool: nn.MaxPool3d, grid: Grid, extra_tokens: int) -> Tensor:
    """Pool tokens on their grid, each frame by itself.

    Where the maximum is takes twice the memory of the maximum; it is not kept.

    Args:
        x (Tensor): Tokens (B, E+T*H*W, C), on a CPU, the E extra ones first, which stay as they are.
        pool (nn.MaxPool3d): Its kernel is 1 in time.
        grid (Grid): (T, H, W).
        extra_tokens (int): E.

    Returns:
        Tensor: (B, E+T*H'*W', C).
    """
    first, x = x.split((extra_tokens, x.shape[1] - extra_tokens), dim=1)
    # (B, T*H*W, C) -> (B*T, C, H, W), channels last in memory
    frames = x.unflatten(1, grid).flatten(0, 1).permute(0, 3, 1, 2)
    pooled = _MaxPool.apply(frames, pool.kernel_size[1:], pool.stride[1:], pool.padding[1:])
    pooled = pooled.permute(0, 2, 3, 1).unflatten(0, (-1, grid[0])).flatten(1, 3)  # (B, T*H'*W', C)
    return torch.cat((first, pooled), dim=1)


class _MaxPool(Function):
    @staticmethod
    def forward(ctx, x: Tensor, *settings: list[int]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.settings = settings
        return F.max_pool2d(x, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        _, places = F.max_pool2d(x, *ctx.settings, return_indices=True)
        grad_x = torch.ops.aten.max_pool2d_with_indices_backward(grad, x, *ctx.settings, [1, 1], False, places)
        return grad_x, None, None, None
