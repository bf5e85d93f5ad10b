"""The last block for the hidden tokens alone: nothing after it looks at the others.

All tokens are keys and values; queries, and what follows the attention, are needed only where the loss is taken.
Results are those of the whole block at these tokens.
"""

from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import Tensor, nn

from ..utils import TokenPlaces, linear
from .attention import FusedMultiScaleAttention, Grid
from .multiscale_block import FusedMultiScaleBlock


class LastEncoderLayer(TransformerEncoderLayer):
    """``TransformerEncoderLayer`` that can give some of its tokens alone.

    It has no state of its own: a layer of a built ViT becomes one by its class.
    """

    def forward(self, x: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Encode.

        Args:
            x (Tensor): Tokens (N, E+L, C), E extra ones first.
            places (TokenPlaces, optional): The K of the L tokens that are wanted. Defaults to None: all, extra ones
                too.

        Returns:
            Tensor: (N, K, C), or as ``x``.
        """
        if places is None:
            return super().forward(x)
        wanted = places.gather(x[:, -places.num_tokens :])
        wanted = wanted + _attend(self.attn, self.ln1(x), places)
        return self.ffn(self.ln2(wanted), identity=wanted)


def _attend(attn: MultiheadAttention, x: Tensor, places: TokenPlaces) -> Tensor:
    """``MultiheadAttention`` of some tokens (N, K, C) to all of them (N, E+L, C)."""
    width, bias = attn.embed_dims, attn.qkv.bias
    of_query, of_rest = (None, None) if bias is None else (bias[:width], bias[width:])
    query = linear(places.gather(x[:, -places.num_tokens :]), attn.qkv.weight[:width], of_query)
    key, value = linear(x, attn.qkv.weight[width:], of_rest).chunk(2, dim=-1)
    # (N, L, C) -> (N, num_heads, L, head_dims)
    query, key, value = (m.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for m in (query, key, value))
    dropout = attn.attn_drop if attn.training else 0.0
    out = attn.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    out = attn.proj(out.transpose(1, 2).flatten(2))  # (N, K, C)
    return attn.out_drop(attn.gamma1(attn.proj_drop(out)))


class LastMultiScaleBlock(FusedMultiScaleBlock):
    """:class:`FusedMultiScaleBlock` that can give some of its tokens alone.

    It has no state of its own: a block of a built MViT becomes one by its class.
    """

    def forward(self, x: Tensor, in_size: Grid, places: TokenPlaces | None = None) -> tuple[Tensor, Grid]:
        """Encode.

        Args:
            x (Tensor): Tokens (N, [1+] T*H*W, C), a class token first if there is one.
            in_size (Grid): Their grid (T, H, W).
            places (TokenPlaces, optional): The K tokens that are wanted, of the grid after the block. Defaults to
                None: all, the class token too.

        Returns:
            tuple[Tensor, Grid]: Tokens (N, K, C'), or (N, [1+] T'*H'*W', C'), and the grid after the block.
        """
        if places is None or self.pool_skip is not None:
            x, out_size = super().forward(x, in_size)
            return (x if places is None else places.gather(x[:, -places.num_tokens :])), out_size
        attended, out_size = attend_from(self.attn, x, in_size, self.norm1, places)
        x = places.gather(self.attention_skip(x)[:, -places.num_tokens :]) + self.drop_path(attended)
        return self.transform(x), out_size


def attend_from(
    attn: FusedMultiScaleAttention, x: Tensor, grid: Grid, norm: nn.Module, places: TokenPlaces
) -> tuple[Tensor, Grid]:
    """:class:`FusedMultiScaleAttention` of some tokens to all of them.

    Args:
        attn (FusedMultiScaleAttention): The attention.
        x (Tensor): Tokens (N, [1+] T*H*W, C), a class token first if there is one.
        grid (Grid): Their grid (T, H, W).
        norm (nn.Module): What normalises the tokens first.
        places (TokenPlaces): The K tokens that are wanted, of the grid after the queries' pooling.

    Returns:
        tuple[Tensor, Grid]: Tokens (N, K, C') and the grid after the pooling.
    """
    q, k, v, q_grid, k_grid = attn.pool(x, grid, norm)
    by_position, positions = attn.positions(q, q_grid, k, k_grid)
    if by_position is not None:
        by_position = places.gather_heads(by_position[:, :, -places.num_tokens :])
    q = places.gather_heads(q[:, :, -places.num_tokens :])
    return attn.attend(q, k, v, by_position, positions, extra=0), q_grid
