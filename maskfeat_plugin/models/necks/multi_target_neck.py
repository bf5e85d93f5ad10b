"""One projection for each of several targets."""

from typing import cast

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import predict_features


@MODELS.register_module()
class MultiTargetNeck(BaseModule):
    """Necks by name: each neck predicts one target of :class:`MultiTargetGenerator`.

    Args:
        necks (dict[str, dict]): Configs of the necks by the names of the targets: any neck that fits :class:`MaskFeat`,
            also from mmpretrain.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``necks`` is empty.
    """

    def __init__(self, necks: dict[str, dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if not necks:
            raise ValueError("necks is empty. Give one neck for each target.")
        self.necks = ModuleDict({name: MODELS.build(cfg) for name, cfg in necks.items()})

    @property
    def out_channels(self) -> dict[str, int | None]:
        """Return the output channels of each neck, None if a neck has no ``out_channels``."""
        return {name: getattr(neck, "out_channels", None) for name, neck in self.necks.items()}

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Predict every target.

        Args:
            tokens (Tensor): (..., C), usually the M masked tokens (M, C).

        Returns:
            dict[str, Tensor]: (..., D) for each target.

        Raises:
            ValueError: If a neck of another package does not fit.
        """
        return {
            name: cast(Tensor, predict_features(neck, tokens, f"neck.necks.{name}"))
            for name, neck in self.necks.items()
        }
