"""Pooling attention with decomposed relative positions, on fused kernels."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MultiScaleAttention, resize_decomposed_rel_pos
from torch import Tensor, nn

Grid = tuple[int, int, int]


@lru_cache(maxsize=64)
def _key_positions(grid: Grid, extra_tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One-hot time, row and column of each key: (extra + T*H*W, T+H+W); extra tokens have none."""
    steps, rows, cols = grid
    t, h, w = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    code = torch.cat([F.one_hot(i.flatten(), n) for i, n in ((t, steps), (h, rows), (w, cols))], dim=1)
    return F.pad(code, (0, 0, extra_tokens, 0)).to(dtype)


def _query_positions(q: Tensor, q_grid: Grid, k_grid: Grid, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Products of each query with the relative positions to every time, row and column of the keys.

    Args:
        q (Tensor): Queries without extra tokens (B, num_heads, T*H*W, C).
        q_grid (Grid): Grid of the queries.
        k_grid (Grid): Grid of the keys.
        tables (tuple[Tensor, Tensor, Tensor]): Relative positions in time, height and width, each (2n-1, C).

    Returns:
        Tensor: (B, num_heads, T*H*W, kT+kH+kW).
    """
    rel_t, rel_h, rel_w = (
        resize_decomposed_rel_pos(table, nq, nk).to(q.dtype)  # (nq, nk, C)
        for table, nq, nk in zip(tables, q_grid, k_grid, strict=True)
    )
    q = q.unflatten(2, q_grid)  # (B, num_heads, T, H, W, C)
    by_time = torch.einsum("bnthwc,tkc->bnthwk", q, rel_t)
    by_row = torch.einsum("bnthwc,hkc->bnthwk", q, rel_h)
    by_col = torch.einsum("bnthwc,wkc->bnthwk", q, rel_w)
    return torch.cat((by_time, by_row, by_col), dim=-1).flatten(2, 4)


class FusedMultiScaleAttention(MultiScaleAttention):
    """mmaction2's ``MultiScaleAttention`` computed by ``scaled_dot_product_attention``.

    Same parameters, same result. The decomposed relative positions are additive in the logits, so they are written as
    further channels: q gains its products with the relative positions, k a one-hot code of its position. No attention
    matrix is held in memory. The pooling convolutions run in the channels-last format that the tokens have anyway.
    """

    def forward(self, x: Tensor, in_size: Grid) -> tuple[Tensor, Grid]:
        """Attend.

        Args:
            x (Tensor): Tokens (B, [1+] T*H*W, C), a class token first if there is one.
            in_size (Grid): Their grid (T, H, W).

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') and their grid.
        """
        extra = int(self.with_cls_token)
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, L, num_heads*C) each
        q, q_grid = self._pool(q, self.pool_q, self.norm_q, in_size)
        k, k_grid = self._pool(k, self.pool_k, self.norm_k, in_size)
        v, _ = self._pool(v, self.pool_v, self.norm_v, in_size)
        # under autocast layer norm gives float32, the products are to run in x's reduced precision
        q, k, v = (t.to(x.dtype) if t.dtype != x.dtype else t for t in (q, k, v))

        query, key, value = q * self.scale, k, v
        if self.rel_pos_embed:
            tables = (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w)
            by_position = _query_positions(q[:, :, extra:], q_grid, k_grid, tables)
            if extra:
                by_position = F.pad(by_position, (0, 0, extra, 0))
            positions = _key_positions(tuple(k_grid), extra, k.device, k.dtype)
            # kernels want q, k and v equally wide, a multiple of 8
            width = q.shape[-1] + positions.shape[-1]
            spare = -width % 8
            query = torch.cat((query, by_position), dim=-1)
            key = torch.cat((k, positions.expand(*k.shape[:3], -1)), dim=-1)
            if spare:
                query, key = F.pad(query, (0, spare)), F.pad(key, (0, spare))
            value = F.pad(v, (0, query.shape[-1] - v.shape[-1]))
        x = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., : v.shape[-1]]

        if self.residual_pooling:
            if extra:
                x = torch.cat((x[:, :, :1], x[:, :, 1:] + q[:, :, 1:]), dim=2)
            else:
                x = x + q
        x = x.transpose(1, 2).flatten(2)  # (B, num_heads, L', C) -> (B, L', num_heads*C)
        return self.proj(x), q_grid

    def _pool(self, x: Tensor, conv: nn.Conv3d, norm: nn.Module, grid: Grid) -> tuple[Tensor, Grid]:
        """Pool tokens (B, L, num_heads*C) by a depthwise convolution that all heads share.

        Returns:
            tuple[Tensor, Grid]: (B, num_heads, L', C), normalised over C, and the new grid.
        """
        extra = int(self.with_cls_token)
        first, x = x[:, :extra], x[:, extra:]
        # heads are further channels: (B, L, num_heads*C) -> (B, num_heads*C, T, H, W), channels last in memory
        x = x.unflatten(1, tuple(grid)).permute(0, 4, 1, 2, 3)
        weight = conv.weight.repeat(self.num_heads, 1, 1, 1, 1)
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
        x = F.conv3d(x, weight, None, conv.stride, conv.padding, groups=x.shape[1])
        out_grid = tuple(x.shape[2:])
        x = x.permute(0, 2, 3, 4, 1).flatten(1, 3)  # (B, L', num_heads*C)
        if extra:
            x = torch.cat((first, x), dim=1)
        x = x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, num_heads, L', C)
        return norm(x), out_grid
