"""Pooling attention with decomposed relative positions, on fused kernels."""

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MultiScaleAttention, resize_decomposed_rel_pos
from torch import Tensor, nn

from maskfeat_plugin.ops.depthwise_conv import depthwise_conv3d
from maskfeat_plugin.ops.gate import LINEAR, may_bypass, only_plain_operations
from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.ops.layers import apply_layer, is_bare_depthwise
from maskfeat_plugin.ops.linear import linear
from maskfeat_plugin.ops.projections import PoolingPlaces, pooling_places, project
from maskfeat_plugin.ops.relative_attention import attend, key_positions, query_positions, relative_places

from ..utils import TokenPlaces


class FusedMultiScaleAttention(MultiScaleAttention):
    """mmaction2's ``MultiScaleAttention`` computed by ``scaled_dot_product_attention``.

    Parameters and results are the same. The decomposed relative positions are added to the logits. Here they are
    written as further channels: q gets its products with the relative positions, k a one-hot code of its position.
    So no attention matrix is held in memory. The pooling convolutions run in the channels-last format that the tokens
    already have.
    """

    def forward(self, x: Tensor, in_size: Grid, places: TokenPlaces | None = None) -> tuple[Tensor, Grid]:
        """Attend.

        Args:
            x (Tensor): Normalised tokens (B, [1+] T*H*W, C), the class token first if there is one.
            in_size (Grid): The grid (T, H, W) of the tokens.
            places (TokenPlaces, optional): The K tokens to compute, as places on the grid after the queries are
                pooled. Defaults to None: all tokens, and the class token.

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') or (B, K, C'), and the grid after the pooling.
        """
        if only_plain_operations():
            x, grid = super().forward(x, in_size)
            return (x if places is None else places.gather(x[:, -places.num_tokens :])), grid
        return self.attend_from(*self.pool(x, in_size), places)

    def attend_unnormalised(
        self, x: Tensor, in_size: Grid, norm: nn.LayerNorm, places: TokenPlaces | None
    ) -> tuple[Tensor, Grid]:
        """Attend without keeping normalised tokens for the backward pass.

        Args: as in :meth:`forward`, and the norm of the tokens. Call it only where :func:`may_bypass` allows it for
            the norm and the projections.

        Returns:
            tuple[Tensor, Grid]: As :meth:`forward`.
        """
        replaceable = is_bare_depthwise(self.pool_k) and is_bare_depthwise(self.pool_v)
        seen = self.places_of_keys(in_size) if replaceable else None
        q, k, v = project(x, norm.weight, norm.bias, norm.eps, self.qkv.weight, self.qkv.bias, seen)
        keys = (in_size, self.pool_k.stride) if seen is None else (seen.grid, seen.stride)
        return self.attend_from(*self._pool_all(q, k, v, in_size, *keys), places)

    def attend_from(
        self, q: Tensor, k: Tensor, v: Tensor, q_grid: Grid, k_grid: Grid, places: TokenPlaces | None
    ) -> tuple[Tensor, Grid]:
        """Attend with the results of :meth:`pool`, for all tokens or only for the given places.

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
        """Compute and pool the queries, keys and values of tokens.

        Args:
            x (Tensor): Normalised tokens (B, [1+] T*H*W, C).
            grid (Grid): The grid (T, H, W) of the tokens.

        Returns:
            tuple[Tensor, Tensor, Tensor, Grid, Grid]: Queries (B, num_heads, [1+] L', C), keys and values (B,
            num_heads, [1+] L'', C), the grid of the queries and the grid of the keys.
        """
        seen = self._places_of_keys_on(x, grid)
        if seen is None:
            q, k, v = apply_layer(self.qkv, x).chunk(3, dim=-1)  # (B, [1+] L, num_heads*C) each
            return self._pool_all(q, k, v, grid, grid, self.pool_k.stride)
        width = len(self.qkv.weight) // 3
        sizes = (width, 2 * width)
        of_query, of_rest = self.qkv.weight.split(sizes)
        query_bias, rest_bias = (None, None) if self.qkv.bias is None else self.qkv.bias.split(sizes)
        q = linear(x, of_query, query_bias)
        k, v = linear(x.index_select(1, seen.index), of_rest, rest_bias).chunk(2, dim=-1)
        return self._pool_all(q, k, v, grid, seen.grid, seen.stride)

    def _pool_all(
        self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, keys_grid: Grid, keys_stride: Grid
    ) -> tuple[Tensor, Tensor, Tensor, Grid, Grid]:
        q, q_grid = self._pool(q, self.pool_q, self.norm_q, grid, self.pool_q.stride)
        k, k_grid = self._pool(k, self.pool_k, self.norm_k, keys_grid, keys_stride)
        v, _ = self._pool(v, self.pool_v, self.norm_v, keys_grid, keys_stride)
        return q, k, v, q_grid, k_grid

    def positions(self, q: Tensor, q_grid: Grid, k: Tensor, k_grid: Grid) -> tuple[Tensor | None, Tensor | None]:
        """Compute the two tensors of relative positions that :meth:`attend` takes.

        Args: Queries and keys from :meth:`pool` with their grids.

        Returns:
            tuple[Tensor | None, Tensor | None]: Products of the queries with the relative positions (B, num_heads,
            [1+] L', P), and the one-hot positions of the keys ([1+] L'', P). None and None if the model has no
            relative positions.
        """
        if not self.rel_pos_embed:
            return None, None
        extra = int(self.with_cls_token)
        by_position = self.query_positions(q[:, :, extra:], q_grid, k_grid)
        if extra:
            by_position = F.pad(by_position, (0, 0, extra, 0))
        return by_position, key_positions(tuple(k_grid), extra, k.device, k.dtype)

    def query_positions(self, q: Tensor, q_grid: Grid, k_grid: Grid) -> Tensor:
        """Compute the products of queries with the relative positions.

        Args:
            q (Tensor): Queries without extra tokens (B, num_heads, T*H*W, C).
            q_grid (Grid): Grid of the queries.
            k_grid (Grid): Grid of the keys.

        Returns:
            Tensor: (B, num_heads, T*H*W, kT+kH+kW).
        """
        tables = zip((self.rel_pos_t, self.rel_pos_h, self.rel_pos_w), q_grid, k_grid, strict=True)
        relative = [_relative_positions(table, nq, nk).to(q.dtype) for table, nq, nk in tables]  # (nq, nk, C)
        return query_positions(q, q_grid, relative)

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
            extra (int): Number of class tokens before the queries. The residual pooling leaves them out.

        Returns:
            Tensor: (B, extra + L', num_heads*C), after the output projection.
        """
        residual_from = extra if self.residual_pooling else None
        return apply_layer(self.proj, attend(q, k, v, by_position, positions, self.scale, residual_from))

    def places_of_keys(self, grid: Grid, device: torch.device | None = None) -> PoolingPlaces | None:
        """Find the tokens of a grid (T, H, W) whose keys and values the pooling needs; None means all tokens."""
        conv, extra = self.pool_k, int(self.with_cls_token)
        return pooling_places(tuple(grid), conv.kernel_size, conv.stride, conv.padding, extra, device)

    def _places_of_keys_on(self, x: Tensor, grid: Grid) -> PoolingPlaces | None:
        """Find the same tokens on the device of ``x``; None also where the layers have to be called as they are."""
        if torch.compiler.is_compiling() or not may_bypass((self.qkv, LINEAR)):
            return None
        if not is_bare_depthwise(self.pool_k) or not is_bare_depthwise(self.pool_v):
            return None
        return self.places_of_keys(grid, x.device)

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

    def convolve(self, x: Tensor, conv: nn.Conv3d, stride: Grid) -> Tensor:
        """Convolve a map (B, num_heads*C, T, H, W) with the weights of one head for all.

        Args:
            x (Tensor): The map.
            conv (nn.Module): The convolution.
            stride (Grid): Stride on this map. It may differ from ``conv.stride`` if :func:`is_bare_depthwise` is true.
        """
        if is_bare_depthwise(conv) and not isinstance(conv.padding, str):
            weight = conv.weight.repeat(self.num_heads, 1, 1, 1, 1)
            return depthwise_conv3d(x, weight, stride, conv.padding)
        heads = conv(x.unflatten(1, (self.num_heads, -1)).flatten(0, 1))  # (B*num_heads, C, T', H', W')
        return heads.unflatten(0, (-1, self.num_heads)).flatten(1, 2)


def _relative_positions(table: Tensor, queries: int, keys: int) -> Tensor:
    """Return the relative positions of places on one axis, as mmaction2's ``resize_decomposed_rel_pos`` does.

    Args:
        table (Tensor): Learned relative positions (R, C). Upstream resizes a table of another length.
        queries (int): Number of places of the queries.
        keys (int): Number of places of the keys.

    Returns:
        Tensor: (queries, keys, C).
    """
    if len(table) != 2 * max(queries, keys) - 1:
        return resize_decomposed_rel_pos(table, queries, keys)
    return table[relative_places(queries, keys, table.device)]
