"""MaskFeat with an encoder of the visible tokens."""

from typing import Any

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..backbones import check_visible_backbone
from .maskfeat import MaskFeat


@MODELS.register_module()
class VisibleMaskFeat(MaskFeat):
    """MaskFeat whose backbone never sees the masked tokens, as in MAE (He et al., 2022).

    The backbone encodes the visible tokens, a light decoder puts mask tokens in the places of the masked ones, and the
    neck predicts their features. This is not the paper's MaskFeat, :class:`MaskFeat`, whose backbone sees mask tokens:
    it trains faster, see docs/efficient.md. Targets, necks and heads are the same.

    Args:
        decoder (dict): Config of :class:`MAEDecoder`.
        **kwargs: Everything of :class:`MaskFeat`. The backbone is a :class:`VisibleBackbone`, or one of your own with
            ``token_grid`` and ``forward(inputs, mask)`` that returns visible tokens (N, K, C); the neck's
            ``in_channels`` are the decoder's ``embed_dims``.

    Raises:
        ValueError: As :class:`MaskFeat`.
    """

    def __init__(self, decoder: dict, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = MODELS.build(decoder)

    def _check_backbone(self) -> None:
        """Raise one error for a backbone that does not fit this algorithm."""
        check_visible_backbone(self.backbone)

    def _masked_tokens(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Decoded tokens (M, D) in the masked places."""
        return self.decoder(self.backbone(inputs, mask), mask)
