"""Pooling attention and its transformer block on the visible tokens of a grid."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.ops.layers import apply_layer, norm_linear
from maskfeat_plugin.ops.relative_attention import key_positions

from ..utils import VisibleUnits
from .attention import FusedMultiScaleAttention
from .multiscale_block import FusedMultiScaleBlock


class VisibleMultiScaleAttention(FusedMultiScaleAttention):
    """:class:`FusedMultiScaleAttention` that can also attend among the visible tokens only. It adds no state."""

    def forward(  # type: ignore[override] # visible units instead of token places
        self, x: Tensor, in_size: Grid, units: VisibleUnits | None = None
    ) -> tuple[Tensor, Grid]:
        """Attend.

        Args:
            x (Tensor): Normalised visible tokens (B, [1+] K, C), the class token first if there is one.
            in_size (Grid): The whole grid (T, H, W).
            units (VisibleUnits, optional): The visible units. Defaults to None: ``x`` holds all tokens.

        Returns:
            tuple[Tensor, Grid]: Visible tokens (B, [1+] K', C') of the new grid, and the new grid.
        """
        if units is None:
            return super().forward(x, in_size)
        return self._attend_visible(apply_layer(self.qkv, x), in_size, units)

    def attend_unnormalised(  # type: ignore[override] # visible units instead of token places
        self, x: Tensor, in_size: Grid, norm: nn.LayerNorm, tokens: VisibleUnits | None
    ) -> tuple[Tensor, Grid]:
        """Attend without keeping normalised tokens for the backward pass.

        Args: as in :meth:`forward`, and the norm of the tokens.

        Returns:
            tuple[Tensor, Grid]: As :meth:`forward`.
        """
        if tokens is None:
            return super().attend_unnormalised(x, in_size, norm, None)
        return self._attend_visible(norm_linear(x, norm, self.qkv), in_size, tokens)

    def _attend_visible(self, qkv: Tensor, grid: Grid, units: VisibleUnits) -> tuple[Tensor, Grid]:
        extra = int(self.with_cls_token)
        heads = (self.num_heads, -1)
        pooled = []
        for part, conv, norm in zip(
            qkv.chunk(3, dim=-1),  # (B, [1+] K, num_heads*C) each
            (self.pool_q, self.pool_k, self.pool_v),
            (self.norm_q, self.norm_k, self.norm_v),
            strict=True,
        ):
            convolve = partial(self.convolve, conv=conv, stride=conv.stride)
            part, part_grid = _pool(part, convolve, 0.0, extra, grid, units)
            pooled.append((norm(part.unflatten(2, heads).transpose(1, 2)), part_grid))  # (B, num_heads, [1+] K', C)
        (q, q_grid), (k, k_grid), (v, _) = pooled
        by_position, positions = None, None
        if self.rel_pos_embed:
            by_position = _visible_query_positions(self, q[:, :, extra:], q_grid, k_grid, units)
            by_position = F.pad(by_position, (0, 0, extra, 0))
            codes = key_positions(k_grid, 0, k.device, k.dtype)  # (L', T+H+W)
            codes = codes[units.tokens(k_grid).index]  # (B, K', T+H+W)
            positions = F.pad(codes, (0, 0, extra, 0))[:, None]
        return self.attend(q, k, v, by_position, positions, extra), q_grid


class VisibleMultiScaleBlock(FusedMultiScaleBlock):
    """:class:`FusedMultiScaleBlock` that can also run on the visible tokens only. It adds no state."""

    attention = VisibleMultiScaleAttention

    def forward(  # type: ignore[override] # visible units instead of token places
        self, x: Tensor, in_size: Grid, units: VisibleUnits | None = None
    ) -> tuple[Tensor, Grid]:
        """Encode.

        Args:
            x (Tensor): Visible tokens (B, [1+] K, C), the class token first if the block has one.
            in_size (Grid): The whole grid (T, H, W).
            units (VisibleUnits, optional): The visible units. Defaults to None: ``x`` holds all tokens.

        Returns:
            tuple[Tensor, Grid]: Visible tokens (B, [1+] K', C') of the new grid, and the new grid.
        """
        if units is None:
            return super().forward(x, in_size)
        attended, skip, out_grid = self.attend(x, in_size, units)
        if self.pool_skip is not None:
            # masked tokens are padding: max pooling pads with minus infinity
            skip, _ = _pool(skip, self.pool_skip, float("-inf"), int(self.with_cls_token), in_size, units)
        return self.transform(skip + self.drop_path(attended)), out_grid


def _visible_query_positions(
    attn: FusedMultiScaleAttention, q: Tensor, q_grid: Grid, k_grid: Grid, units: VisibleUnits
) -> Tensor:
    """Compute the products of the visible queries with the relative positions.

    It computes them on the whole grid, where the queries of a row share the same factors.

    Args:
        attn (FusedMultiScaleAttention): The attention that holds the relative positions.
        q (Tensor): Visible queries without extra tokens (B, num_heads, K, C).
        q_grid (Grid): Grid of the queries.
        k_grid (Grid): Grid of the keys.
        units (VisibleUnits): The visible units.

    Returns:
        Tensor: (B, num_heads, K, kT+kH+kW).
    """
    visible = units.tokens(q_grid)
    whole = visible.scatter(q.transpose(1, 2).flatten(2))  # (B, L, num_heads*C)
    whole = whole.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
    products = attn.query_positions(whole, q_grid, k_grid)
    products = visible.gather(products.transpose(1, 2).flatten(2))  # (B, K, num_heads*(kT+kH+kW))
    return products.unflatten(2, (attn.num_heads, -1)).transpose(1, 2)


def _pool(
    x: Tensor, pool: Callable[[Tensor], Tensor], fill: float, extra: int, grid: Grid, units: VisibleUnits
) -> tuple[Tensor, Grid]:
    """Pool visible tokens (B, [extra+] K, C) on their grid, with ``fill`` at the masked positions.

    Returns:
        tuple[Tensor, Grid]: (B, [extra+] K', C) and the new grid.
    """
    first, x = x[:, :extra], x[:, extra:]
    x = units.tokens(grid).scatter(x, fill)  # (B, L, C)
    x = pool(x.unflatten(1, grid).permute(0, 4, 1, 2, 3))  # (B, C, T, H, W), channels last in memory
    out_grid = tuple(x.shape[2:])
    x = units.tokens(out_grid).gather(x.permute(0, 2, 3, 4, 1).flatten(1, 3))  # (B, K', C)
    return torch.cat((first, x), dim=1), out_grid
