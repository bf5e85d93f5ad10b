"""Pooling attention with decomposed relative positions, on fused kernels."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MultiScaleAttention, resize_decomposed_rel_pos
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from maskfeat_plugin.ops.blockwise_attention import attend_in_blocks, attends_in_blocks
from maskfeat_plugin.ops.depthwise_conv import depthwise_conv3d
from maskfeat_plugin.ops.gate import is_watched, may_bypass
from maskfeat_plugin.ops.linear import apply_layer
from maskfeat_plugin.ops.projections import PoolingPlaces, pooling_places, project

from ..utils import TokenPlaces

Grid = tuple[int, int, int]


@lru_cache(maxsize=64)
def key_positions(grid: Grid, extra_tokens: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """One-hot time, row and column of each key.

    Args:
        grid (Grid): Grid (T, H, W) of the keys.
        extra_tokens (int): Tokens before them, which have no position.
        device (torch.device): Device of the result.
        dtype (torch.dtype): Its dtype.

    Returns:
        Tensor: (extra_tokens + T*H*W, T+H+W).
    """
    steps, rows, cols = grid
    t, h, w = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    code = torch.cat([F.one_hot(i.flatten(), n) for i, n in ((t, steps), (h, rows), (w, cols))], dim=1)
    return F.pad(code, (0, 0, extra_tokens, 0)).to(dtype)


def query_positions(q: Tensor, q_grid: Grid, k_grid: Grid, tables: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Products of each query with the relative positions to every time, row and column of the keys.

    Args:
        q (Tensor): Queries without extra tokens (B, num_heads, T*H*W, C).
        q_grid (Grid): Grid of the queries.
        k_grid (Grid): Grid of the keys.
        tables (tuple[Tensor, Tensor, Tensor]): Relative positions in time, height and width, each (2n-1, C).

    Returns:
        Tensor: (B, num_heads, T*H*W, kT+kH+kW).
    """
    relative = (
        resize_decomposed_rel_pos(table, nq, nk).to(q.dtype)  # (nq, nk, C)
        for table, nq, nk in zip(tables, q_grid, k_grid, strict=True)
    )
    products = _multiply_positions if is_watched() else _QueryPositions.apply
    return products(q, q_grid, *relative)


def _multiply_positions(q: Tensor, q_grid: Grid, *relative: Tensor) -> Tensor:
    q = q.unflatten(2, q_grid)  # (B, num_heads, T, H, W, C)
    by_axis = [torch.einsum(f"bnthwc,{axis}kc->bnthwk", q, rel) for axis, rel in zip("thw", relative, strict=True)]
    return torch.cat(by_axis, dim=-1).flatten(2, 4)


class _QueryPositions(Function):
    """Keeps the queries for the backward pass, where each ``einsum`` would keep an arrangement of them of its own."""

    @staticmethod
    def forward(ctx, q: Tensor, q_grid: Grid, *relative: Tensor) -> Tensor:
        ctx.save_for_backward(q, *relative)
        ctx.q_grid = q_grid
        return _multiply_positions(q, q_grid, *relative)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, *relative = ctx.saved_tensors
        q = q.unflatten(2, ctx.q_grid)  # (B, num_heads, T, H, W, C)
        # under autocast the products are of a smaller type than the normalised queries
        by_axis = grad.to(q.dtype).unflatten(2, ctx.q_grid).split([rel.shape[1] for rel in relative], dim=-1)
        grad_q, grads = 0, []
        for axis, rel, part in zip("thw", relative, by_axis, strict=True):
            grad_q = torch.einsum(f"bnthwk,{axis}kc->bnthwc", part, rel) + grad_q
            grads.append(torch.einsum(f"bnthwk,bnthwc->{axis}kc", part, q))
        return grad_q.flatten(2, 4), None, *grads


class FusedMultiScaleAttention(MultiScaleAttention):
    """mmaction2's ``MultiScaleAttention`` computed by ``scaled_dot_product_attention``.

    Same parameters, same result. The decomposed relative positions are additive in the logits, so they are written as
    further channels: q gains its products with the relative positions, k a one-hot code of its position. No attention
    matrix is held in memory. The pooling convolutions run in the channels-last format that the tokens have anyway.
    """

    def forward(self, x: Tensor, in_size: Grid, places: TokenPlaces | None = None) -> tuple[Tensor, Grid]:
        """Attend.

        Args:
            x (Tensor): Normalised tokens (B, [1+] T*H*W, C), a class token first if there is one.
            in_size (Grid): Their grid (T, H, W).
            places (TokenPlaces, optional): The K tokens whose results are wanted, of the grid after the queries'
                pooling. Defaults to None: all, the class token too.

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') or (B, K, C'), and the grid after the pooling.
        """
        if is_watched():
            x, grid = super().forward(x, in_size)
            return (x if places is None else places.gather(x[:, -places.num_tokens :])), grid
        return self.attend_from(*self.pool(x, in_size), places)

    def attend_unnormalised(
        self, x: Tensor, in_size: Grid, norm: nn.LayerNorm, places: TokenPlaces | None
    ) -> tuple[Tensor, Grid]:
        """Attend without keeping normalised tokens for the backward pass.

        Args: as in :meth:`forward`, and the norm of the tokens. :func:`may_bypass` allows it for the norm and the
            projections.

        Returns:
            tuple[Tensor, Grid]: As :meth:`forward`.
        """
        replaceable = _is_bare_depthwise(self.pool_k) and _is_bare_depthwise(self.pool_v)
        seen = self.places_of_keys(in_size) if replaceable else None
        q, k, v = project(x, norm, self.qkv, seen)
        keys = (in_size, self.pool_k.stride) if seen is None else (seen.grid, seen.stride)
        return self.attend_from(*self._pool_all(q, k, v, in_size, *keys), places)

    def attend_from(
        self, q: Tensor, k: Tensor, v: Tensor, q_grid: Grid, k_grid: Grid, places: TokenPlaces | None
    ) -> tuple[Tensor, Grid]:
        """Attend with what :meth:`pool` returns, from all tokens or from those of places.

        Returns:
            tuple[Tensor, Grid]: As :meth:`forward`.
        """
        by_position, positions = self.positions(q, q_grid, k, k_grid)
        extra = int(self.with_cls_token)
        if places is not None:
            extra = 0
            q = places.gather_heads(q[:, :, -places.num_tokens :])
            if by_position is not None:
                by_position = places.gather_heads(by_position[:, :, -places.num_tokens :])
        return self.attend(q, k, v, by_position, positions, extra), q_grid

    def pool(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor, Grid, Grid]:
        """Queries, keys and values of tokens, each pooled.

        Args:
            x (Tensor): Normalised tokens (B, [1+] T*H*W, C).
            grid (Grid): Their grid (T, H, W).

        Returns:
            tuple[Tensor, Tensor, Tensor, Grid, Grid]: Queries (B, num_heads, [1+] L', C), keys and values (B,
            num_heads, [1+] L'', C), the grid of the queries and that of the keys.
        """
        q, k, v = apply_layer(self.qkv, x).chunk(3, dim=-1)  # (B, [1+] L, num_heads*C) each
        return self._pool_all(q, k, v, grid, grid, self.pool_k.stride)

    def _pool_all(
        self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, keys_grid: Grid, keys_stride: Grid
    ) -> tuple[Tensor, Tensor, Tensor, Grid, Grid]:
        q, q_grid = self._pool(q, self.pool_q, self.norm_q, grid, self.pool_q.stride)
        k, k_grid = self._pool(k, self.pool_k, self.norm_k, keys_grid, keys_stride)
        v, _ = self._pool(v, self.pool_v, self.norm_v, keys_grid, keys_stride)
        return q, k, v, q_grid, k_grid

    def positions(self, q: Tensor, q_grid: Grid, k: Tensor, k_grid: Grid) -> tuple[Tensor | None, Tensor | None]:
        """What :meth:`attend` wants of the relative positions; None and None where the model has none.

        Args: Queries and keys of :meth:`pool` with their grids.

        Returns:
            tuple[Tensor | None, Tensor | None]: Products of the queries with the relative positions (B, num_heads,
            [1+] L', P), and the keys' positions, one-hot, ([1+] L'', P).
        """
        if not self.rel_pos_embed:
            return None, None
        extra = int(self.with_cls_token)
        by_position = query_positions(q[:, :, extra:], q_grid, k_grid, (self.rel_pos_t, self.rel_pos_h, self.rel_pos_w))
        if extra:
            by_position = F.pad(by_position, (0, 0, extra, 0))
        return by_position, key_positions(tuple(k_grid), extra, k.device, k.dtype)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, by_position: Tensor | None, positions: Tensor | None, extra: int
    ) -> Tensor:
        """Attend with pooled queries, keys and values.

        Args:
            q (Tensor): (B, num_heads, extra + L', C).
            k (Tensor): (B, num_heads, [1+] L'', C).
            v (Tensor): As ``k``.
            by_position (Tensor, optional): Products of the queries with the relative positions, (B, num_heads, extra +
                L', P). None without relative positions.
            positions (Tensor, optional): Positions of the keys, one-hot, that broadcast to (B, num_heads, [1+] L'', P).
            extra (int): Class tokens before the queries, which the residual pooling leaves out.

        Returns:
            Tensor: (B, extra + L', num_heads*C), projected.
        """
        if attends_in_blocks(q, k, v):
            if by_position is None:
                by_position, positions = q.new_empty(*q.shape[:3], 0), k.new_empty(1, 1, k.shape[2], 0)
            residual = slice(extra, None) if self.residual_pooling else slice(0, 0)
            positions = positions.expand(1, 1, -1, -1) if positions.ndim == 2 else positions
            return apply_layer(self.proj, attend_in_blocks(q, by_position, k * self.scale, positions, v, residual))
        query, key, value = q * self.scale, k, v
        if by_position is not None:
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
        return apply_layer(self.proj, x)

    def places_of_keys(self, grid: Grid) -> PoolingPlaces | None:
        """The tokens of a grid (T, H, W) of which the pooling needs keys and values; None for all."""
        conv = self.pool_k
        return pooling_places(tuple(grid), conv.kernel_size, conv.stride, conv.padding, int(self.with_cls_token))

    def _pool(self, x: Tensor, conv: nn.Conv3d, norm: nn.Module, grid: Grid, stride: Grid) -> tuple[Tensor, Grid]:
        """Pool tokens (B, [1+] L, num_heads*C) by a depthwise convolution that all heads share.

        Returns:
            tuple[Tensor, Grid]: (B, num_heads, [1+] L', C), normalised over C, and the new grid.
        """
        extra = int(self.with_cls_token)
        first, x = x.split((extra, x.shape[1] - extra), dim=1)
        # heads are further channels: (B, L, num_heads*C) -> (B, num_heads*C, T, H, W), channels last in memory
        x = x.unflatten(1, tuple(grid)).permute(0, 4, 1, 2, 3)
        x = self.convolve(x, conv, stride)
        out_grid = tuple(x.shape[2:])
        x = x.permute(0, 2, 3, 4, 1).flatten(1, 3)  # (B, L', num_heads*C)
        if extra:
            x = torch.cat((first, x), dim=1)
        x = x.unflatten(2, (self.num_heads, -1))  # (B, [1+] L', num_heads, C)
        if may_bypass((norm, nn.LayerNorm)):
            return norm.forward(x).transpose(1, 2), out_grid
        return norm(x.transpose(1, 2)), out_grid

    def convolve(self, x: Tensor, conv: nn.Module, stride: Grid) -> Tensor:
        """Convolve a map (B, num_heads*C, T, H, W) with the weights of one head for all.

        Args:
            x (Tensor): The map.
            conv (nn.Module): The convolution.
            stride (Grid): Its stride on this map, where :func:`_is_bare_depthwise` allows another.
        """
        if _is_bare_depthwise(conv):
            weight = conv.weight.repeat(self.num_heads, 1, 1, 1, 1)
            return depthwise_conv3d(x, weight, stride, conv.padding)
        heads = conv(x.unflatten(1, (self.num_heads, -1)).flatten(0, 1))  # (B*num_heads, C, T', H', W')
        return heads.unflatten(0, (-1, self.num_heads)).flatten(1, 2)


def _is_bare_depthwise(conv: nn.Module) -> bool:
    """Tell whether a convolution's weights may be used without it: depthwise, without bias."""
    return (
        may_bypass((conv, nn.Conv3d))
        and conv.groups == conv.in_channels == conv.out_channels
        and (conv.bias, conv.dilation, conv.padding_mode) == (None, (1, 1, 1), "zeros")
    )
