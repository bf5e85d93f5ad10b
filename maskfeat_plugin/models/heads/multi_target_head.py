"""One loss for each of several targets."""

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import HeadWithBaseline, compute_loss, loss_settings


@MODELS.register_module()
class MultiTargetHead(BaseModule):
    """Heads by name: each head compares one target of :class:`MultiTargetGenerator` with its prediction.

    The training loss is the sum of their losses. Weigh a loss with its ``loss_weight``.

    Args:
        heads (dict[str, dict]): Configs of the heads by the names of the targets: any head that fits :class:`MaskFeat`,
            also from mmpretrain.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``heads`` is empty.
    """

    def __init__(self, heads: dict[str, dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        if not heads:
            raise ValueError("heads is empty. Give one head for each target.")
        self.heads = ModuleDict({name: MODELS.build(cfg) for name, cfg in heads.items()})

    def loss(self, pred: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute every loss.

        Args:
            pred (dict[str, Tensor]): Predicted features or logits (M, D) by name.
            target (dict[str, Tensor]): True features (M, D) or classes (M,) by name.

        Returns:
            dict[str, Tensor]: One scalar per target, float32.

        Raises:
            ValueError: If the names differ, or a head of another package does not fit.
        """
        self._check_names(pred, target)
        return {
            name: compute_loss(head, pred[name], target[name], f"head.heads.{name}")
            for name, head in self.heads.items()
        }

    @property
    def loss_settings(self) -> dict[str, dict | None]:
        """Return the settings of every head's loss by the names of the targets."""
        return {name: loss_settings(head) for name, head in self.heads.items()}

    def baseline(self, pred: dict[str, Tensor], target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of predicting this batch's means for every token; arguments as in :meth:`loss`.

        Returns:
            dict[str, Tensor]: A scalar for each head that can compute it.
        """
        return {
            name: head.baseline(pred[name], target[name])
            for name, head in self.heads.items()
            if isinstance(head, HeadWithBaseline)
        }

    def _check_names(self, pred: dict[str, Tensor], target: dict[str, Tensor]) -> None:
        sides = {"predictions": pred, "targets": target, "heads": self.heads}
        if any(not isinstance(side, dict | ModuleDict) or set(side) != set(target) for side in sides.values()):
            named = ", ".join(
                f"{k} {sorted(v) if not isinstance(v, Tensor) else 'one tensor'}" for k, v in sides.items()
            )
            raise ValueError(f"Predictions, targets and heads must have the same names, but there are: {named}.")
