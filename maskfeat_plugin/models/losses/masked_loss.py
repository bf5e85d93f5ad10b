"""Losses on masked tokens."""

import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS


def _mse(pred: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(pred, target, reduction="none").mean(-1)


def _l1(pred: Tensor, target: Tensor) -> Tensor:
    return F.l1_loss(pred, target, reduction="none").mean(-1)


def _smooth_l1(pred: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(pred, target, reduction="none").mean(-1)


def _cosine(pred: Tensor, target: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(pred, target, dim=-1)


def _cross_entropy(pred: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(pred, target, reduction="none")


# Each function returns one loss per token, (M,).
_KINDS = {
    "mse": _mse,
    "l1": _l1,
    "smooth_l1": _smooth_l1,
    "cosine": _cosine,
    "cross_entropy": _cross_entropy,
}


@MODELS.register_module()
class MaskedLoss(nn.Module):
    """Loss of the masked tokens, averaged over them by :func:`mean_over_tokens`.

    The loss of a token is the mean over its channels (``mse``, ``l1``, ``smooth_l1``), one minus the cosine of the
    angle between prediction and target (``cosine``), or the cross-entropy of logits with a class or a distribution
    over classes (``cross_entropy``).

    Args:
        kind (str): One of ``mse`` (the paper's for HOG and pixels), ``l1``, ``smooth_l1``, ``cosine``,
            ``cross_entropy``. Defaults to ``mse``.
        loss_weight (float): Factor of the loss. Defaults to 1.0.

    Raises:
        ValueError: If ``kind`` is unknown.
    """

    def __init__(self, kind: str = "mse", loss_weight: float = 1.0) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"kind={kind!r} is unknown; choose one of {sorted(_KINDS)}.")
        self.kind = kind
        self.loss_weight = loss_weight

    @property
    def settings(self) -> dict[str, str | float]:
        """Return the arguments that build the same loss."""
        return dict(kind=self.kind, loss_weight=self.loss_weight)

    def token_losses(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of every token in float32, also under autocast.

        Args:
            pred (Tensor): Predicted features or logits (M, D).
            target (Tensor): True features or class distributions (M, D), floating point, or classes (M,), int64.

        Returns:
            Tensor: (M,), float32.
        """
        if target.is_floating_point():
            target = target.float()
        return self.loss_weight * _KINDS[self.kind](pred.float(), target)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the mean loss in float32, also under autocast.

        Args:
            pred (Tensor): Predicted features or logits (M, D).
            target (Tensor): True features or class distributions (M, D), floating point, or classes (M,), int64.

        Returns:
            Tensor: A scalar, float32.
        """
        return mean_over_tokens(self.token_losses(pred, target))


def mean_over_tokens(losses: Tensor) -> Tensor:
    """Average the losses over the masked tokens of a batch, or of the batches of all processes.

    Every token of every sample has the same weight, as in the authors' code. With several processes, each one divides
    the sum of its losses by the mean number of tokens per process. Data-parallel training then averages the
    gradients of the processes. The result is the gradient of the mean over all tokens, even if the processes have
    different numbers of tokens. Gradient accumulation averages batches. If all batches have the same number of masked
    tokens, as mask generators with an exact number give, this is the mean over all tokens too.

    Args:
        losses (Tensor): One loss per token, (M,).

    Returns:
        Tensor: A scalar. It is zero, with a gradient of zero, if no token is masked.
    """
    if get_world_size() == 1:
        return losses.sum() / max(len(losses), 1)
    count = losses.new_full((), len(losses))  # filled on the device; a copy of a number would wait
    all_reduce(count, "mean")
    return losses.sum() / count.clamp(min=1 / get_world_size())
