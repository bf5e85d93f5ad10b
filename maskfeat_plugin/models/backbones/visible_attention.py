"""Pooling attention and its block on the visible tokens of a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils import VisibleUnits, norm_linear
from .attention import FusedMultiScaleAttention, Grid, key_positions, query_positions
from .multiscale_block import FusedMultiScaleBlock


def run_visible_block(block: FusedMultiScaleBlock, x: Tensor, grid: Grid, units: VisibleUnits) -> tuple[Tensor, Grid]:
    """:class:`FusedMultiScaleBlock` on the visible tokens.

    Args:
        block (FusedMultiScaleBlock): The block.
        x (Tensor): Visible tokens (B, [1+] K, C), a class token first if the block has one.
        grid (Grid): The grid (T, H, W) that they are from.
        units (VisibleUnits): What is visible.

    Returns:
        tuple[Tensor, Grid]: Visible tokens (B, [1+] K', C') of the new grid, and that grid.
    """
    attended, out_grid = attend_visible(block.attn, x, grid, block.norm1, units)
    skip = block.attention_skip(x)
    if block.pool_skip is not None:
        # as beyond the border, where max pooling sees minus infinity
        skip, _ = _pool(skip, block.pool_skip, float("-inf"), int(block.with_cls_token), grid, units)
    return block.transform(skip + block.drop_path(attended)), out_grid


def attend_visible(
    attn: FusedMultiScaleAttention, x: Tensor, grid: Grid, norm: nn.Module, units: VisibleUnits
) -> tuple[Tensor, Grid]:
    """:class:`FusedMultiScaleAttention` among the visible tokens.

    Args:
        attn (FusedMultiScaleAttention): The attention.
        x (Tensor): Visible tokens (B, [1+] K, C).
        grid (Grid): The grid (T, H, W) that they are from.
        norm (nn.Module): What normalises the tokens first.
        units (VisibleUnits): What is visible.

    Returns:
        tuple[Tensor, Grid]: Visible tokens (B, [1+] K', C') of the new grid, and that grid.
    """
    extra = int(attn.with_cls_token)
    heads = (attn.num_heads, -1)
    pooled = []
    for part, conv, pooled_norm in zip(
        norm_linear(x, norm, attn.qkv).chunk(3, dim=-1),  # (B, [1+] K, num_heads*C) each
        (attn.pool_q, attn.pool_k, attn.pool_v),
        (attn.norm_q, attn.norm_k, attn.norm_v),
        strict=True,
    ):
        part, part_grid = _pool(part, lambda m, conv=conv: attn.convolve(m, conv, conv.stride), 0.0, extra, grid, units)
        # under autocast layer norm gives float32, the products are to run in x's reduced precision
        part = pooled_norm(part.unflatten(2, heads).transpose(1, 2)).to(x.dtype)  # (B, num_heads, [1+] K', C)
        pooled.append((part, part_grid))
    (q, q_grid), (k, k_grid), (v, _) = pooled
    by_position, positions = None, None
    if attn.rel_pos_embed:
        by_position = _visible_query_positions(attn, q[:, :, extra:], q_grid, k_grid, units)
        by_position = F.pad(by_position, (0, 0, extra, 0))
        codes = key_positions(k_grid, 0, k.device, k.dtype)  # (L', T+H+W)
        codes = codes[units.tokens(k_grid).index]  # (B, K', T+H+W)
        positions = F.pad(codes, (0, 0, extra, 0))[:, None]
    return attn.attend(q, k, v, by_position, positions, extra), q_grid


def _visible_query_positions(
    attn: FusedMultiScaleAttention, q: Tensor, q_grid: Grid, k_grid: Grid, units: VisibleUnits
) -> Tensor:
    """Products of the visible queries with the relative positions: on the whole grid rows share their factors.

    Args:
        attn (FusedMultiScaleAttention): Holds the relative positions.
        q (Tensor): Visible queries without extra tokens (B, num_heads, K, C).
        q_grid (Grid): Grid of the queries.
        k_grid (Grid): Grid of the keys.
        units (VisibleUnits): What is visible.

    Returns:
        Tensor: (B, num_heads, K, kT+kH+kW).
    """
    visible = units.tokens(q_grid)
    whole = visible.scatter(q.transpose(1, 2).flatten(2))  # (B, L, num_heads*C)
    whole = whole.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
    products = query_positions(whole, q_grid, k_grid, (attn.rel_pos_t, attn.rel_pos_h, attn.rel_pos_w))
    products = visible.gather(products.transpose(1, 2).flatten(2))  # (B, K, num_heads*(kT+kH+kW))
    return products.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)


def _pool(x: Tensor, pool: nn.Module, fill: float, extra: int, grid: Grid, units: VisibleUnits) -> tuple[Tensor, Grid]:
    """Pool visible tokens (B, [extra+] K, C) on their grid, on which hidden ones are ``fill``.

    Returns:
        tuple[Tensor, Grid]: (B, [extra+] K', C) and the new grid.
    """
    first, x = x[:, :extra], x[:, extra:]
    x = units.tokens(grid).scatter(x, fill)  # (B, L, C)
    x = pool(x.unflatten(1, grid).permute(0, 4, 1, 2, 3))  # (B, C, T, H, W), channels last in memory
    out_grid = tuple(x.shape[2:])
    x = units.tokens(out_grid).gather(x.permute(0, 2, 3, 4, 1).flatten(1, 3))  # (B, K', C)
    return torch.cat((first, x), dim=1), out_grid
