"""The block of MViT, with less memory in training."""

from mmaction.models.backbones.mvit import MultiScaleBlock, attention_pool
from torch import Tensor, nn

from ..utils import norm_linear
from .attention import Grid
from .max_pooling import max_pool_tokens


class FusedMultiScaleBlock(MultiScaleBlock):
    """mmaction2's ``MultiScaleBlock`` around :class:`FusedMultiScaleAttention` and :class:`FusedMLP`.

    Same parameters, same result; norms are left to what follows them. It has no state of its own: a block of a built
    MViT becomes one by its class.
    """

    def forward(self, x: Tensor, in_size: Grid) -> tuple[Tensor, Grid]:
        """Encode.

        Args:
            x (Tensor): Tokens (B, [1+] T*H*W, C), a class token first if there is one.
            in_size (Grid): Their grid (T, H, W).

        Returns:
            tuple[Tensor, Grid]: Tokens (B, [1+] T'*H'*W', C') and their grid.
        """
        attended, out_size = self.attn(x, in_size, self.norm1)
        skip = self.attention_skip(x)
        if self.pool_skip is not None:
            skip = self.pool_tokens(skip, in_size)
        return self.transform(skip + self.drop_path(attended)), out_size

    def attention_skip(self, x: Tensor) -> Tensor:
        """What the attention's result is added to, before pooling: tokens (B, L, C) to (B, L, C')."""
        grows = self.proj is not None and self.dim_mul_in_attention
        return norm_linear(x, self.norm1, self.proj) if grows else x

    def pool_tokens(self, x: Tensor, grid: Grid) -> Tensor:
        """Pool what the attention's result is added to: tokens (B, [1+] T*H*W, C) to (B, [1+] T'*H'*W', C)."""
        by_frames = type(self.pool_skip) is nn.MaxPool3d and self.pool_skip.kernel_size[0] == 1
        if by_frames and x.device.type == "cpu":
            return max_pool_tokens(x, self.pool_skip, tuple(grid), int(self.with_cls_token))
        return attention_pool(x, self.pool_skip, grid, self.with_cls_token)[0]

    def transform(self, x: Tensor) -> Tensor:
        """The second half of a block, the MLP: tokens (B, L, C) to (B, L, C')."""
        grows = self.proj is not None and not self.dim_mul_in_attention
        skip = norm_linear(x, self.norm2, self.proj) if grows else x
        return skip + self.drop_path(self.mlp(x, self.norm2))
