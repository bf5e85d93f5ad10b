"""The head that compares predicted with true classes."""

import torch
from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..losses import MaskedLoss


@MODELS.register_module()
class ClassificationHead(BaseModule):
    """Cross-entropy head between the logits of masked tokens and their classes or class distributions.

    Use it for discrete tokens and pseudo-labels (MaskFeat paper). The neck computes the logits.

    Args:
        loss (dict, optional): Config of the loss, called with ``(pred, target)``. Defaults to
            :class:`MaskedLoss` of the kind ``cross_entropy``.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(self, loss: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.loss_module = MODELS.build(loss or dict(type="maskfeat.MaskedLoss", kind="cross_entropy"))

    def loss(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): Logits (M, K).
            target (Tensor): Classes (M,), int64, or distributions over classes (M, K), floating point.
            mask (Tensor, optional): bool (N, L), True at the tokens to compare. mmpretrain's models call their heads
                with it; ``pred`` and ``target`` then hold all tokens, (N, L, ...). Defaults to None: compare all rows.

        Returns:
            Tensor: A scalar, float32.

        Raises:
            ValueError: If the target is neither of the two, or has another number of classes.
        """
        if mask is not None:
            pred, target = pred[mask.bool()], target[mask.bool()]
        if target.dim() == 2 and pred.shape != target.shape:
            raise ValueError(
                f"The neck predicts {tuple(pred.shape)}, but the target has {target.shape[-1]} classes; "
                f"set out_channels={target.shape[-1]} of the neck."
            )
        if target.dim() == 1 and target.is_floating_point() or target.dim() == 2 and not target.is_floating_point():
            raise ValueError(
                f"Classes must be (M,) int64, or distributions (M, K) floating point, but the target generator gives "
                f"{tuple(target.shape)} {target.dtype}."
            )
        return self.loss_module(pred, target)

    @property
    def loss_settings(self) -> dict[str, str | float] | None:
        """Return the settings of the :class:`MaskedLoss`, None for another loss."""
        return self.loss_module.settings if isinstance(self.loss_module, MaskedLoss) else None

    def baseline(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of predicting this batch's class frequencies everywhere; arguments as in :meth:`loss`."""
        if target.dim() == 1:
            frequencies = pred.new_zeros(pred.shape[-1], dtype=torch.float32)
            frequencies.scatter_add_(0, target, torch.ones_like(target, dtype=torch.float32))
        else:
            frequencies = target.float().sum(0)
        logits = frequencies.clamp_min(1e-12).log()  # up to a constant, which the softmax removes
        return self.loss(logits.expand(len(target), -1), target)
