"""One projection for each of several layers of the backbone."""

from typing import cast

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import predict_features
from .multi_target_neck import MultiTargetNeck


@MODELS.register_module()
class MultiLayerNeck(MultiTargetNeck):
    """Necks by name: each neck predicts one target from the tokens of one layer of the backbone.

    Use it with :class:`MultiLayerMaskedViT` or :class:`MultiLayerMaskedMViT`. The first neck takes the first of the
    ``early_layers``, the last neck takes the last layer.

    Args:
        necks (dict[str, dict]): Configs of the necks by the names of the targets, in the order of the layers.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``necks`` is empty.
    """

    def forward(self, tokens: tuple[Tensor, ...]) -> dict[str, Tensor]:  # type: ignore[override] # several layers
        """Predict every target.

        Args:
            tokens (tuple[Tensor, ...]): (M, C) for each layer, with its own number of channels C.

        Returns:
            dict[str, Tensor]: (M, D) for each target.

        Raises:
            ValueError: If there is not one layer for each neck, or a neck does not fit.
        """
        found = len(tokens) if isinstance(tokens, tuple) else 1
        if found != len(self.necks):
            raise ValueError(
                f"The backbone gives the tokens of {found} layer(s), but `neck.necks` has {len(self.necks)}: "
                f"{', '.join(self.necks)}. Set `backbone.early_layers` of maskfeat.MultiLayerMaskedViT or "
                f"MultiLayerMaskedMViT to {len(self.necks) - 1} layers; the last layer is always the last one."
            )
        return {
            name: cast(Tensor, predict_features(neck, layer, f"neck.necks.{name}"))
            for (name, neck), layer in zip(self.necks.items(), tokens, strict=True)
        }
