"""The transformer layer of ViT. On a CPU it uses oneDNN's matrix products; it can compute some of its tokens only."""

from typing import cast

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils.attention import MultiheadAttention
from torch import Tensor, nn

from maskfeat_plugin.ops.gate import LINEAR, may_bypass
from maskfeat_plugin.ops.layers import apply_layer
from maskfeat_plugin.ops.linear import linear

from ..utils import TokenPlaces, become


class EncoderAttention(MultiheadAttention):
    """``MultiheadAttention`` that computes only some tokens, or attends only to some tokens. It adds no state."""

    def forward(self, x: Tensor, places: TokenPlaces | None = None, keys: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Tokens (N, E+L, C), the E extra tokens first.
            places (TokenPlaces, optional): The K of the L tokens to compute. Defaults to None: all tokens, the extra
                ones too.
            keys (Tensor, optional): bool (N, 1, 1, E+L), True where a token may be attended to. Defaults to None: all
                tokens.

        Returns:
            Tensor: (N, K, C), or the shape of ``x``.
        """
        # (N, L, C) -> (N, num_heads, L, head_dims)
        query, key, value = (m.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for m in self._project(x, places))
        dropout = self.attn_drop if self.training else 0.0
        if keys is None:
            x = self.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        else:
            x = F.scaled_dot_product_attention(query, key, value, attn_mask=keys, dropout_p=dropout)
        x = apply_layer(self.proj, x.transpose(1, 2).flatten(2))  # (N, K, C)
        return self.out_drop(self.gamma1(self.proj_drop(x)))

    def _project(self, x: Tensor, places: TokenPlaces | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries (N, K, C), keys and values (N, E+L, C)."""
        if places is None or not may_bypass((self.qkv, LINEAR)):
            query, key, value = apply_layer(self.qkv, x).chunk(3, dim=-1)
            return (query if places is None else places.gather(query[:, -places.num_tokens :])), key, value
        width, weight, bias = self.embed_dims, self.qkv.weight, self.qkv.bias
        of_query, of_rest = (None, None) if bias is None else (bias[:width], bias[width:])
        query = linear(places.gather(x[:, -places.num_tokens :]), weight[:width], of_query)
        key, value = linear(x, weight[width:], of_rest).chunk(2, dim=-1)
        return query, key, value


class EncoderLayer(TransformerEncoderLayer):
    """``TransformerEncoderLayer`` that can compute some of its tokens only.

    All tokens are keys and values. The queries, and all steps after the attention, are computed only for the given
    places. The results are equal to the results of the whole layer at these places. It adds no state.
    """

    def forward(self, x: Tensor, places: TokenPlaces | None = None, keys: Tensor | None = None) -> Tensor:
        """Encode.

        Args: as :meth:`EncoderAttention.forward`.

        Returns:
            Tensor: (N, K, C), or the shape of ``x``.
        """
        knows_places = isinstance(self.attn, EncoderAttention)
        wanted = (places if knows_places else None, keys)
        attended = self.attn(self.ln1(x), *(() if wanted == (None, None) else wanted))
        if places is not None:
            x = places.gather(x[:, -places.num_tokens :])
            attended = attended if knows_places else places.gather(attended[:, -places.num_tokens :])
        x = x + attended
        return self._feed_forward(self.ln2(x), x)

    def _feed_forward(self, x: Tensor, identity: Tensor) -> Tensor:
        ffn = self.ffn
        if not may_bypass((ffn, FFN)) or not ffn.add_identity:
            return ffn(x, identity=identity)
        return identity + ffn.dropout_layer(ffn.gamma2(apply_layer(ffn.layers, x)))


def use_encoder_layers(layers: nn.ModuleList) -> None:
    """Change the classes of the layers of a built ViT to the classes of this module; parameters and names stay."""
    for layer in layers:
        become(layer, EncoderLayer)
        become(cast(nn.Module, layer.attn), EncoderAttention)
