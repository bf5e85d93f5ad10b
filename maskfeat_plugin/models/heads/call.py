"""Calls of a head, one of this package or of others, as MaskFeat and each of its several targets make them."""

from typing import Any, Protocol, runtime_checkable

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..utils import foreign_call

_HEADS = (
    "MaskFeat calls loss(pred, target) with features of the masked tokens, (M, D). Use maskfeat.RegressionHead or "
    "mmpretrain.MIMHead."
)


@runtime_checkable
class HeadWithBaseline(Protocol):
    """Head that can also tell the loss of a prediction that has learned nothing of the input."""

    def baseline(self, pred: Any, target: Any) -> Any:
        """Compute the loss of predicting this batch's mean target for every token; arguments as of ``loss``."""


def compute_loss(
    head: BaseModule, pred: Tensor | dict[str, Tensor], target: Tensor | dict[str, Tensor], key: str = "head"
) -> Any:
    """Compute the loss of a head.

    Args:
        head (BaseModule): A head with ``loss(pred, target)``, of mmpretrain too.
        pred (Tensor | dict[str, Tensor]): Predicted features or logits (M, D), of several targets by name.
        target (Tensor | dict[str, Tensor]): True features (M, D) or classes (M,), of several targets by name.
        key (str): The head's config key, for messages. Defaults to "head".

    Returns:
        Tensor | dict[str, Tensor]: A scalar, of several targets by name.

    Raises:
        ValueError: If the head does not fit.
    """
    with foreign_call(key, head, _HEADS):
        return head.loss(pred, target)


def loss_settings(head: nn.Module) -> dict | None:
    """Return the settings from which the loss of a head is built again, None if the head does not tell them."""
    return getattr(head, "loss_settings", None)
