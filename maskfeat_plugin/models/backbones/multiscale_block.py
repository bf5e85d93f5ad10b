"""The block of MViT, with less memory in training."""

from typing import Any

from mmaction.models.backbones.mvit import MultiScaleBlock, attention_pool
from torch import Tensor

from maskfeat_plugin.ops.gate import LINEAR, is_watched, may_bypass
from maskfeat_plugin.ops.linear import apply_layer, may_bypass_norm, norm_linear, runs_on_onednn
from maskfeat_plugin.ops.max_pooling import max_pool_tokens, pools_frames
from maskfeat_plugin.ops.mlp import fuses_mlp, normed_mlp

from ..utils import TokenPlaces
from .attention import FusedMultiScaleAttention, Grid


class FusedMultiScaleBlock(MultiScaleBlock):
    """mmaction2's ``MultiScaleBlock`` around :class:`FusedMultiScaleAttention`, which can give some tokens alone.

    Same parameters, same result. Norms are computed with the layer after them where :func:`may_bypass` allows it. It
    has no state of its own: a block of a built MViT becomes one by its class.
    """

    attention = FusedMultiScaleAttention

    def forward(self, x: Tensor, in_size: Grid, places: TokenPlaces | None = None) -> tuple[Tensor, Grid]:
        """Encode.

        Args:
            x (Tensor): Tokens (B, [1+] T*H*W, C), a class token first if there is one.
            in_size (Grid): Their grid (T, H, W).
            places (TokenPlaces, optional): The K tokens that are wanted, of the grid after the block. Defaults to
                None: all, the class token too.

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') or (B, K, C'), and the grid after the block.
        """
        if is_watched() or not isinstance(self.attn, self.attention):
            x, out_size = super().forward(x, in_size)
            return (x if places is None else places.gather(x[:, -places.num_tokens :])), out_size
        attended, skip, out_size = self.attend(x, in_size, places)
        if self.pool_skip is not None:
            skip = self.pool_tokens(skip, in_size)
        if places is not None:
            skip = places.gather(skip[:, -places.num_tokens :])
        return self.transform(skip + self.drop_path(attended)), out_size

    def attend(self, x: Tensor, grid: Grid, tokens: Any = None) -> tuple[Tensor, Tensor, Grid]:
        """Run the attention.

        Args:
            x (Tensor): Tokens (B, [1+] L, C).
            grid (Grid): Their grid (T, H, W).
            tokens: Tokens that the attention is asked for, as its third argument. Defaults to None, all.

        Returns:
            tuple[Tensor, Tensor, Grid]: The attention's result; the tokens (B, [1+] L, C') that it is added to, before
            their pooling; the grid of the result.
        """
        proj = self.proj if self.dim_mul_in_attention else None
        qkv = self.attn.qkv
        fuses = may_bypass_norm(self.norm1) and may_bypass((self.attn, self.attention), (qkv, LINEAR))
        if fuses and (proj is None or may_bypass((proj, LINEAR))) and runs_on_onednn(x, qkv.weight):
            attended, out_grid = self.attn.attend_unnormalised(x, grid, self.norm1, tokens)
            return attended, x if proj is None else norm_linear(x, self.norm1, proj), out_grid
        normed = self.norm1(x)
        attended, out_grid = self.attn(normed, grid) if tokens is None else self.attn(normed, grid, tokens)
        return attended, x if proj is None else apply_layer(proj, normed), out_grid

    def pool_tokens(self, x: Tensor, grid: Grid) -> Tensor:
        """Pool the tokens that the attention's result is added to: (B, [1+] T*H*W, C) to (B, [1+] T'*H'*W', C)."""
        if x.device.type == "cpu" and pools_frames(self.pool_skip):
            return max_pool_tokens(x, self.pool_skip, tuple(grid), int(self.with_cls_token))
        return attention_pool(x, self.pool_skip, grid, self.with_cls_token)[0]

    def transform(self, x: Tensor) -> Tensor:
        """Run the second half of the block, the MLP: tokens (B, L, C) to (B, L, C')."""
        proj = None if self.dim_mul_in_attention else self.proj
        if fuses_mlp(x, self.norm2, self.mlp) and (proj is None or may_bypass((proj, LINEAR))):
            skip = x if proj is None else norm_linear(x, self.norm2, proj)
            return skip + self.drop_path(normed_mlp(x, self.norm2, self.mlp))
        normed = self.norm2(x)
        skip = x if proj is None else apply_layer(proj, normed)
        return skip + self.drop_path(self.mlp(normed))
