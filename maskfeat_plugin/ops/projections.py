"""Queries of all tokens, with keys and values of only the tokens that pooling reads, in float32 on a CPU."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .grids import Grid
from .linear import norm_backward, product, sum_of_products


@dataclass(frozen=True)
class PoolingPlaces:
    """Tokens of a grid that a strided convolution reads. They form a grid again.

    For example, a convolution of stride 8 and kernel 3 reads 3 of 8 rows. On these rows alone, a convolution of stride
    3 has the same result.

    Args:
        grid (Grid): Size (T, H, W) of the grid of these tokens.
        stride (Grid): Stride of the convolution on this grid.
        index (Tensor): int64 (E + L',), the indices of these tokens among all tokens, after E extra tokens.
    """

    grid: Grid
    stride: Grid
    index: Tensor


@lru_cache(maxsize=64)
def pooling_places(
    grid: Grid, kernel: Grid, stride: Grid, padding: Grid, extra_tokens: int, device: torch.device | None = None
) -> PoolingPlaces | None:
    """Find the tokens that a convolution reads.

    Args:
        grid (Grid): Grid (T, H, W) of the tokens.
        kernel (Grid): Size of the kernel.
        stride (Grid): Stride of the convolution.
        padding (Grid): Zeros on each side.
        extra_tokens (int): Number of tokens before the grid's tokens. All of them are kept.
        device (torch.device, optional): Device of the index. Defaults to None, the CPU.

    Returns:
        PoolingPlaces | None: The tokens, None if the convolution reads every token.
    """
    seen = [_seen(*axis) for axis in zip(grid, kernel, stride, padding, strict=True)]
    if all(len(places) == n for places, n in zip(seen, grid, strict=True)):
        return None
    t, h, w = (torch.tensor(places) for places in seen)
    index = ((t[:, None, None] * grid[1] + h[:, None]) * grid[2] + w).flatten() + extra_tokens
    return PoolingPlaces(
        grid=tuple(len(places) for places in seen),
        stride=tuple(min(s, k) for s, k in zip(stride, kernel, strict=True)),
        index=torch.cat((torch.arange(extra_tokens), index)).to(device),
    )


def _seen(size: int, kernel: int, stride: int, padding: int) -> list[int]:
    """Return the places on one axis that are in any window."""
    if stride <= kernel:
        return list(range(size))
    windows = (size + 2 * padding - kernel) // stride + 1
    return [
        place
        for window in range(windows)
        for place in range(window * stride - padding, window * stride - padding + kernel)
        if 0 <= place < size
    ]


def project(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    places: PoolingPlaces | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries, keys and values of normalised tokens.

    Only the tokens are kept for the backward pass.

    Args:
        x (Tensor): Tokens, float32 (B, [1+] L, C), on a CPU.
        norm_weight (Tensor): Weight of the layer norm (C,).
        norm_bias (Tensor): Bias of the layer norm (C,).
        eps (float): Number added to the variance.
        weight (Tensor): Weights of the projections to queries, keys and values, concatenated (3*D, C).
        bias (Tensor, optional): Biases of the projections (3*D,).
        places (PoolingPlaces, optional): The tokens whose keys and values are needed. None means all tokens.

    Returns:
        tuple[Tensor, Tensor, Tensor]: Queries (B, [1+] L, D), keys and values (B, [1+] L', D).
    """
    index = None if places is None else places.index
    return _Project.apply(x, norm_weight, norm_bias, eps, weight, bias, index)


class _Project(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        eps: float,
        weight: Tensor,
        bias: Tensor | None,
        index: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, norm_weight, norm_bias, weight)
        ctx.eps, ctx.index = eps, index
        normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps)
        seen = normed if index is None else normed.index_select(1, index)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        parts = zip((normed, seen, seen), weight.chunk(3), biases, strict=True)
        query, key, value = (product(*part) for part in parts)
        return query, key, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, weight = ctx.saved_tensors
        normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, ctx.eps)
        seen = normed if ctx.index is None else normed.index_select(1, ctx.index)
        of_weight, of_bias = torch.empty_like(weight), weight.new_empty(len(weight))
        parts = zip(grads, (normed, seen, seen), of_weight.chunk(3), of_bias.chunk(3), strict=True)
        for grad, rows, part_of_weight, part_of_bias in parts:
            grad = grad.flatten(0, 1)
            part_of_weight.copy_(sum_of_products(grad, rows.flatten(0, 1)))
            torch.sum(grad, 0, out=part_of_bias)
        of_normed, of_keys, of_values = (product(g, w.t()) for g, w in zip(grads, weight.chunk(3), strict=True))
        of_keys += of_values
        if ctx.index is None:
            of_normed += of_keys
        else:
            of_normed.index_add_(1, ctx.index, of_keys)
        of_norm = norm_backward(of_normed, x, norm_weight, norm_bias, ctx.eps)
        return *of_norm, None, of_weight, of_bias if ctx.needs_input_grad[5] else None, None
