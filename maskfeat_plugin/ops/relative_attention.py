"""Attention with decomposed relative positions, written as further channels of queries and keys."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .blockwise_attention import attend_in_blocks, attends_in_blocks
from .gate import only_plain_operations
from .grids import Grid


@lru_cache(maxsize=64)
def key_positions(grid: Grid, extra_tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Compute one-hot codes of time, row and column of each key.

    Args:
        grid (Grid): Grid (T, H, W) of the keys.
        extra_tokens (int): Number of tokens before the keys of the grid, which have no position.
        device (torch.device): Device of the result.
        dtype (torch.dtype): Dtype of the result.

    Returns:
        Tensor: (extra_tokens + T*H*W, T+H+W).
    """
    steps, rows, cols = grid
    t, h, w = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    code = torch.cat([F.one_hot(i.flatten(), n) for i, n in ((t, steps), (h, rows), (w, cols))], dim=1)
    return F.pad(code, (0, 0, extra_tokens, 0)).to(dtype)


@lru_cache(maxsize=256)
def relative_places(queries: int, keys: int, device: torch.device) -> Tensor:
    """Compute the row of each pair of places in a table of relative positions, once for each size.

    Args:
        queries (int): Number of places of the queries on one axis.
        keys (int): Number of places of the keys. The coarser of both grids is spread over the finer one.
        device (torch.device): Device of the result.

    Returns:
        Tensor: int64 (queries, keys), from 0 to 2 * max(queries, keys) - 2.
    """
    of_query = torch.arange(queries)[:, None] * max(keys / queries, 1.0)
    of_key = torch.arange(keys)[None, :] * max(queries / keys, 1.0)
    return (of_query - of_key + (keys - 1) * max(queries / keys, 1.0)).long().to(device)


def query_positions(q: Tensor, q_grid: Grid, relative: Sequence[Tensor]) -> Tensor:
    """Compute the products of each query with the relative positions to every time, row and column of the keys.

    Args:
        q (Tensor): Queries without extra tokens (B, num_heads, T*H*W, C).
        q_grid (Grid): Grid of the queries.
        relative (Sequence[Tensor]): Relative positions in time, height and width of each query position to each key
            position: (T, kT, C), (H, kH, C), (W, kW, C).
            place: (T, kT, C), (H, kH, C), (W, kW, C).

    Returns:
        Tensor: (B, num_heads, T*H*W, kT+kH+kW).
    """
    products = _multiply_positions if only_plain_operations() else _QueryPositions.apply
    return products(q, q_grid, *relative)


def _multiply_positions(q: Tensor, q_grid: Grid, *relative: Tensor) -> Tensor:
    q = q.unflatten(2, q_grid)  # (B, num_heads, T, H, W, C)
    by_axis = [torch.einsum(f"bnthwc,{axis}kc->bnthwk", q, rel) for axis, rel in zip("thw", relative, strict=True)]
    return torch.cat(by_axis, dim=-1).flatten(2, 4)


class _QueryPositions(Function):
    """Autograd function that keeps the queries once; each ``einsum`` would keep its own permuted copy of them."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, q_grid: Grid, *relative: Tensor) -> Tensor:
        ctx.save_for_backward(q, *relative)
        ctx.q_grid = q_grid
        return _multiply_positions(q, q_grid, *relative)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, *relative = ctx.saved_tensors
        q = q.unflatten(2, ctx.q_grid)  # (B, num_heads, T, H, W, C)
        # under autocast the products have a smaller type than the normalised queries
        by_axis = grad.to(q.dtype).unflatten(2, ctx.q_grid).split([rel.shape[1] for rel in relative], dim=-1)
        grads_q, grads = [], []
        for axis, rel, part in zip("thw", relative, by_axis, strict=True):
            grads_q.append(torch.einsum(f"bnthwk,{axis}kc->bnthwc", part, rel))
            grads.append(torch.einsum(f"bnthwk,bnthwc->{axis}kc", part, q))
        time, height, width = grads_q
        return (width + (height + time)).flatten(2, 4), None, *grads


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    by_position: Tensor | None,
    positions: Tensor | None,
    scale: float,
    residual_from: int | None,
) -> Tensor:
    """Compute ``softmax(scale * q k' + by_position positions') v`` of each head.

    Args:
        q (Tensor): Queries (B, num_heads, L, C).
        k (Tensor): Keys (B, num_heads, K, C).
        v (Tensor): Values, in the shape of ``k``.
        by_position (Tensor, optional): Products of the queries with the relative positions (B, num_heads, L, P). None
            without relative positions.
        positions (Tensor, optional): One-hot positions of the keys that broadcast to (B, num_heads, K, P).
        scale (float): Factor of the products of queries and keys.
        residual_from (int, optional): Index of the first query that is added to its result; all later queries are added
            too. None means that no query is added.

    Returns:
        Tensor: (B, L, num_heads*C).
    """
    if attends_in_blocks(q, k, v):
        if by_position is None or positions is None:
            by_position, positions = q.new_empty(*q.shape[:3], 0), k.new_empty(1, 1, k.shape[2], 0)
        residual = slice(0, 0) if residual_from is None else slice(residual_from, None)
        positions = positions.expand(1, 1, -1, -1) if positions.ndim == 2 else positions
        return attend_in_blocks(q, by_position, k * scale, positions, v, residual)
    query, key, value = q * scale, k, v
    if by_position is not None and positions is not None:
        # fused kernels need q, k and v with the same width, a multiple of 8
        width = q.shape[-1] + positions.shape[-1]
        spare = -width % 8
        query = torch.cat((query, by_position), dim=-1)
        key = torch.cat((k, positions.expand(*k.shape[:3], -1)), dim=-1)
        if spare:
            query, key = F.pad(query, (0, spare)), F.pad(key, (0, spare))
        value = F.pad(v, (0, query.shape[-1] - v.shape[-1]))
    x = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., : v.shape[-1]]
    if residual_from:
        x = torch.cat((x[:, :, :residual_from], x[:, :, residual_from:] + q[:, :, residual_from:]), dim=2)
    elif residual_from == 0:
        x = x + q
    return x.transpose(1, 2).flatten(2)  # (B, num_heads, L, C) -> (B, L, num_heads*C)
