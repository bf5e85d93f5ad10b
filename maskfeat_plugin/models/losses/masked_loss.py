"""Regression losses on masked tokens."""

import torch.nn.functional as F
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS


def _cosine(pred: Tensor, target: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(pred, target, dim=-1)).mean()


_KINDS = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "cosine": _cosine,
}


@MODELS.register_module()
class MaskedLoss(nn.Module):
    """A regression loss, averaged over the masked tokens.

    Every token weighs the same; the mean is over the tokens of the whole batch (and over their channels), as the
    authors take it.

    Args:
        kind (str): One of ``mse`` (the paper's for HOG), ``l1``, ``smooth_l1``, ``cosine``. Defaults to ``mse``.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If ``kind`` is unknown.
    """

    def __init__(self, kind: str = "mse", loss_weight: float = 1.0) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"head.loss.kind={kind!r} is unknown; choose one of {sorted(_KINDS)}.")
        self.kind = kind
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss in float32, under autocast too.

        Args:
            pred (Tensor): Predicted features (M, D).
            target (Tensor): True features (M, D).

        Returns:
            Tensor: A scalar, float32.
        """
        return self.loss_weight * _KINDS[self.kind](pred.float(), target.float())
