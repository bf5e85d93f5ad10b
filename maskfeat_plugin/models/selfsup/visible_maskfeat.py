"""MaskFeat with an encoder of the visible tokens only."""

from typing import Any

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..backbones import check_visible_backbone
from ..utils import TokenPlaces, takes_argument
from .maskfeat import MaskFeat


@MODELS.register_module()
class VisibleMaskFeat(MaskFeat):
    """MaskFeat whose backbone encodes only the visible tokens, as in MAE (He et al., 2022).

    A light decoder puts mask tokens at the masked positions, and the neck predicts the features of the masked tokens.
    This is not the MaskFeat of the paper, whose backbone encodes mask tokens; for that one use :class:`MaskFeat`. This
    variant trains faster, see docs/efficient.md. Targets, necks and heads are the same.

    Args:
        decoder (dict): Config of :class:`MAEDecoder`.
        **kwargs: All arguments of :class:`MaskFeat`. The backbone is a :class:`VisibleBackbone`, or your own backbone
            with ``token_grid`` and a ``forward(inputs, mask)`` that returns visible tokens (N, K, C). The neck's
            ``in_channels`` is the decoder's ``embed_dims``.

    Raises:
        ValueError: As :class:`MaskFeat`.
    """

    def __init__(self, decoder: dict, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.decoder = MODELS.build(decoder)
        self._takes_count = takes_argument(self.backbone.forward, "num_masked")

    def _check_backbone(self) -> None:
        """Raise one error for a backbone that does not fit this algorithm."""
        check_visible_backbone(self.backbone)

    def _masked_tokens(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        """Decode the tokens (M, D) in the masked places."""
        return self.decoder(self._visible_tokens(inputs, mask, places), mask, places)

    def _masked_and_pooled_tokens(
        self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None
    ) -> tuple[Tensor, Tensor]:
        """Decode the tokens (M, D) in the masked places, and return the means (N, C) of the encoded visible tokens."""
        visible = self._visible_tokens(inputs, mask, places)
        return self.decoder(visible, mask, places), visible.mean(1)

    def _visible_tokens(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        """Encode the visible tokens (N, K, C)."""
        known = {"num_masked": places.index.shape[1]} if places is not None and self._takes_count else {}
        return self.backbone(inputs, mask, **known)
