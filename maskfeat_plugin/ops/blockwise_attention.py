"""Attention with relative positions in float32 on a CPU, computed for blocks of queries."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .gate import multiplies_in_bfloat16, runs_on_onednn
from .linear import product

# Number of logits in one block of queries: 4 MiB, which stays in the cache between the products
_BLOCK = 1 << 20
# With fewer logits per head, a fused kernel over all heads takes less time
_LEAST_LOGITS = 1 << 17


def attends_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Check whether :func:`attend_in_blocks` accepts queries, keys and values, and saves time.

    Args:
        q (Tensor): Queries (B, num_heads, L, C).
        k (Tensor): Keys (B, num_heads, K, C).
        v (Tensor): Values (B, num_heads, K, C).

    Returns:
        bool: True in float32 and bfloat16 on a CPU, if there are so many tokens that the products take most of the
            time.
    """
    if q.shape[2] * k.shape[2] < _LEAST_LOGITS:
        return False
    return runs_on_onednn(q, k, v) or multiplies_in_bfloat16(q, k, v)


def attend_in_blocks(
    q: Tensor, by_position: Tensor, k: Tensor, positions: Tensor, v: Tensor, residual: slice
) -> Tensor:
    """Compute ``softmax(q k' + by_position positions') v``: the pooling attention between pooling and projection.

    The whole attention matrix is never in memory, nor are all queries concatenated with their positions.

    Args:
        q (Tensor): Queries, float32 (B, num_heads, L, C).
        by_position (Tensor): Products of the queries with the relative positions (B, num_heads, L, P).
        k (Tensor): Keys (B, num_heads, K, C), scaled.
        positions (Tensor): One-hot positions of the keys (B or 1, 1, K, P).
        v (Tensor): Values (B, num_heads, K, C).
        residual (slice): The queries that are added to their results (residual pooling).

    Returns:
        Tensor: (B, L, num_heads*C).
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        q, by_position, k, positions, v = (t.to(dtype) for t in (q, by_position, k, positions, v))
    with torch.autocast("cpu", enabled=False):
        return _Attention.apply(q, by_position, k, positions, v, residual).flatten(2)


class _Attention(Function):
    """Autograd function of :func:`attend_in_blocks`, with results (B, L, num_heads, C) for the output projection."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, by_position: Tensor, k: Tensor, positions: Tensor, v: Tensor, residual: slice
    ) -> Tensor:
        ctx.save_for_backward(q, by_position, k, positions, v)
        ctx.residual = residual
        batch, heads, tokens, channels = q.shape
        out = q.new_empty(batch, tokens, heads, channels)
        for b, h, key in _keys(k, positions):
            value = v[b, h].contiguous().t()
            for rows in _blocks(tokens, len(key)):
                query = torch.cat((q[b, h, rows], by_position[b, h, rows]), dim=-1)
                out[b, rows, h] = product(product(query, key).softmax(-1), value)  # (R, C)
        out[:, residual] += q[:, :, residual].transpose(1, 2)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, by_position, k, positions, v = ctx.saved_tensors
        channels = q.shape[-1]
        grad_q, grad_by_position, grad_k, grad_v = (torch.empty_like(t) for t in (q, by_position, k, v))
        for b, h, key in _keys(k, positions):
            value = v[b, h].contiguous()
            of_key: Any = 0
            of_value: Any = 0
            for rows in _blocks(q.shape[2], len(key)):
                query = torch.cat((q[b, h, rows], by_position[b, h, rows]), dim=-1)
                weights = product(query, key).softmax(-1)  # (R, K)
                of_out = grad[b, rows, h].contiguous()  # (R, C)
                of_value = product(of_out.t(), weights.t()).float() + of_value  # (C, K)
                of_logits = torch.ops.aten._softmax_backward_data(product(of_out, value), weights, -1, weights.dtype)
                of_key = product(query.t(), of_logits.t()).float() + of_key  # (C+P, K)
                of_query = product(of_logits, key.t())  # (R, C+P)
                grad_by_position[b, h, rows] = of_query[:, channels:]
                grad_q[b, h, rows] = of_query[:, :channels]
            grad_k[b, h] = of_key[:channels].t()
            grad_v[b, h] = of_value.t()
        grad_q[:, :, ctx.residual] += grad[:, ctx.residual].transpose(1, 2)
        return grad_q, grad_by_position, grad_k, None, grad_v, None


def _keys(k: Tensor, positions: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield for each sample and head their indices, and the keys concatenated with their positions (K, C+P)."""
    positions = positions.expand(len(k), -1, -1, -1)[:, 0]
    for b in range(len(k)):
        for h in range(k.shape[1]):
            yield b, h, torch.cat((k[b, h], positions[b]), dim=-1)


def _blocks(queries: int, keys: int) -> Iterator[slice]:
    size = max(_BLOCK // keys, 1)
    for begin in range(0, queries, size):
        yield slice(begin, begin + size)
