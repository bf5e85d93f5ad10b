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


# Each gives one loss a token, (M,).
_KINDS = {
    "mse": _mse,
    "l1": _l1,
    "smooth_l1": _smooth_l1,
    "cosine": _cosine,
    "cross_entropy": _cross_entropy,
}


@MODELS.register_module()
class MaskedLoss(nn.Module):
    """A loss of the masked tokens, averaged over them by :func:`mean_over_tokens`.

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
        """Return the arguments with which the same loss is built."""
        return dict(kind=self.kind, loss_weight=self.loss_weight)

    def token_losses(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of every token in float32, under autocast too.

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
        """Compute the loss in float32, under autocast too.

        Args:
            pred (Tensor): Predicted features or logits (M, D).
            target (Tensor): True features or class distributions (M, D), floating point, or classes (M,), int64.

        Returns:
            Tensor: A scalar, float32.
        """
        return mean_over_tokens(self.token_losses(pred, target))


def mean_over_tokens(losses: Tensor) -> Tensor:
    """Average over the masked tokens of a batch, on several processes over those of all.

    Every token weighs the same, whichever sample it is of, as the authors take it. Of several processes each divides
    the sum of its losses by the mean number of tokens of a process; data parallel training averages their gradients,
    which then are those of the mean over all tokens, though processes may have more or fewer of them. Gradient
    accumulation averages batches: of equally many tokens, as the mask generators hide, that is the mean over all.

    Args:
        losses (Tensor): One loss a token, (M,).

    Returns:
        Tensor: A scalar; zero, with a gradient of zero, where no token is masked.
    """
    if get_world_size() == 1:
        return losses.sum() / max(len(losses), 1)
    count = losses.new_tensor(len(losses))
    all_reduce(count, "mean")
    return losses.sum() / count.clamp(min=1 / get_world_size())
