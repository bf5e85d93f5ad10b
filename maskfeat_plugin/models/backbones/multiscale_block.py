"""The transformer block of MViT, which needs less memory in training."""

from typing import Any

from mmaction.models.backbones.mvit import MultiScaleBlock
from torch import Tensor

from maskfeat_plugin.ops.gate import LINEAR, may_bypass, only_plain_operations
from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.ops.layers import apply_layer, fuses_mlp, may_fuse, norm_linear, norm_mlp, pool_tokens

from ..utils import TokenPlaces
from .attention import FusedMultiScaleAttention


class FusedMultiScaleBlock(MultiScaleBlock):
    """mmaction2's ``MultiScaleBlock`` around :class:`FusedMultiScaleAttention`. It can compute some tokens only.

    Parameters and results are the same. A norm is fused with the layer after it where :func:`may_bypass` allows it. It
    adds no state: changing the class of a block of a built MViT is enough.
    """

    attention = FusedMultiScaleAttention

    def forward(self, x: Tensor, in_size: Grid, places: TokenPlaces | None = None) -> tuple[Tensor, Grid]:
        """Encode.

        Args:
            x (Tensor): Tokens (B, [1+] T*H*W, C), the class token first if there is one.
            in_size (Grid): The grid (T, H, W) of the tokens.
            places (TokenPlaces, optional): The K tokens to compute, as places on the grid after the block. Defaults to
                None: all tokens, and the class token.

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') or (B, K, C'), and the grid after the block.
        """
        if only_plain_operations() or not isinstance(self.attn, self.attention):
            x, out_size = super().forward(x, in_size)
            return (x if places is None else places.gather(x[:, -places.num_tokens :])), out_size
        attended, skip, out_size = self.attend(x, in_size, places)
        if self.pool_skip is not None:
            skip = pool_tokens(skip, self.pool_skip, in_size, int(self.with_cls_token))
        if places is not None:
            skip = places.gather(skip[:, -places.num_tokens :])
        return self.transform(skip + self.drop_path(attended)), out_size

    def attend(self, x: Tensor, grid: Grid, tokens: Any = None) -> tuple[Tensor, Tensor, Grid]:
        """Run the attention.

        Args:
            x (Tensor): Tokens (B, [1+] L, C).
            grid (Grid): The grid (T, H, W) of the tokens.
            tokens: Third argument of the attention: the tokens to compute. Defaults to None: all tokens.

        Returns:
            tuple[Tensor, Tensor, Grid]: The result of the attention; the tokens (B, [1+] L, C') of the residual
            branch, before they are pooled; the grid of the result.
        """
        proj = self.proj if self.dim_mul_in_attention else None
        layers = [] if proj is None else [(proj, LINEAR)]
        if may_fuse(x, self.norm1, (self.attn, self.attention), (self.attn.qkv, LINEAR), *layers):
            attended, out_grid = self.attn.attend_unnormalised(x, grid, self.norm1, tokens)
            return attended, x if proj is None else norm_linear(x, self.norm1, proj), out_grid
        normed = self.norm1(x)
        attended, out_grid = self.attn(normed, grid) if tokens is None else self.attn(normed, grid, tokens)
        return attended, x if proj is None else apply_layer(proj, normed), out_grid

    def transform(self, x: Tensor) -> Tensor:
        """Run the second half of the block, the MLP: tokens (B, L, C) to (B, L, C')."""
        proj = None if self.dim_mul_in_attention else self.proj
        if fuses_mlp(x, self.norm2, self.mlp) and (proj is None or may_bypass((proj, LINEAR))):
            skip = x if proj is None else norm_linear(x, self.norm2, proj)
            return skip + self.drop_path(norm_mlp(x, self.norm2, self.mlp))
        normed = self.norm2(x)
        skip = x if proj is None else apply_layer(proj, normed)
        return skip + self.drop_path(self.mlp(normed))
