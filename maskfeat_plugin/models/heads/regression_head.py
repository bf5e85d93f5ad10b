"""The head that compares predicted with true features."""

from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..losses import MaskedLoss


@MODELS.register_module()
class RegressionHead(BaseModule):
    """Head with a loss between the predicted and the true features of masked tokens.

    Args:
        loss (dict): Config of the loss, called with ``(pred, target)``, both (M, D).
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(self, loss: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_module = MODELS.build(loss)

    def loss(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): Predicted features (M, D).
            target (Tensor): True features (M, D).
            mask (Tensor, optional): bool (N, L), True at the tokens to compare. mmpretrain's models call their heads
                with it; ``pred`` and ``target`` then hold all tokens, (N, L, ...). Defaults to None: compare all rows.

        Returns:
            Tensor: A scalar, float32.

        Raises:
            ValueError: If the shapes differ.
        """
        if mask is not None:
            pred, target = pred[mask.bool()], target[mask.bool()]
        if target.dim() != 2:
            raise ValueError(
                f"The target has one class per token, {tuple(target.shape)} {target.dtype}, but RegressionHead needs "
                "features (M, D); use maskfeat.ClassificationHead."
            )
        if pred.shape != target.shape:
            raise ValueError(
                f"The neck predicts {tuple(pred.shape)}, but the target is {tuple(target.shape)}; "
                f"set out_channels={target.shape[-1]} of the neck."
            )
        return self.loss_module(pred, target)

    @property
    def loss_settings(self) -> dict[str, str | float] | None:
        """Return the settings of the :class:`MaskedLoss`, None for another loss."""
        return self.loss_module.settings if isinstance(self.loss_module, MaskedLoss) else None

    def baseline(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of predicting this batch's mean target for every token; arguments as in :meth:`loss`."""
        return self.loss(target.mean(0, keepdim=True).expand_as(target), target)
