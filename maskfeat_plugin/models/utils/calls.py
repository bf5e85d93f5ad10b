"""Calls of an algorithm's necks and heads, of this package or others, with one target or several by name."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

T = TypeVar("T")
# The value of a single target, or the values of several by name
Values = TypeVar("Values", bound=Tensor | dict[str, Tensor])

ONLY = ""
"""Name of a single target."""

_BARE = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
_NECKS = (
    "MaskFeat calls it with the masked tokens (M, C) and needs their features (M, D). Use maskfeat.RegressionNeck or "
    "mmpretrain.LinearNeck."
)
_HEADS = (
    "MaskFeat calls loss(pred, target) with features of the masked tokens, (M, D). Use maskfeat.RegressionHead or "
    "mmpretrain.MIMHead."
)


def by_name(value: T | Mapping[str, T]) -> dict[str, T]:
    """Return values by the names of their targets.

    Args:
        value (T | Mapping[str, T]): Value of a single target, or values of several by name.

    Returns:
        dict[str, T]: The values; that of a single target under :data:`ONLY`.
    """
    return dict(value) if isinstance(value, Mapping) else {ONLY: value}


def unnamed(values: dict[str, T]) -> T | dict[str, T]:
    """Undo :func:`by_name`.

    Args:
        values (dict[str, T]): Values by the names of their targets.

    Returns:
        T | dict[str, T]: The value of a single target, or the values of several by name.
    """
    return values[ONLY] if values.keys() == {ONLY} else values


def predict_features(neck: nn.Module, tokens: Tensor, key: str = "neck") -> Tensor | dict[str, Tensor]:
    """Predict the features of the masked tokens.

    Args:
        neck (nn.Module): A neck of this package or the user, called with the tokens, or of OpenMMLab, called with a
            tuple of them. It may return a tuple, whose last element is taken.
        tokens (Tensor): The masked tokens (M, C).
        key (str): The neck's config key, for messages. Defaults to "neck".

    Returns:
        Tensor | dict[str, Tensor]: (M, D), of several targets by name.

    Raises:
        ValueError: If the neck does not fit.
    """
    with foreign_call(key, neck, _NECKS):
        pred = neck((tokens,) if is_foreign(neck) else tokens)
    return pred[-1] if isinstance(pred, tuple) else pred


@runtime_checkable
class HeadWithBaseline(Protocol):
    """Head that can also tell the loss of a prediction that has learned nothing of the input."""

    def baseline(self, pred: Values, target: Values) -> Values:
        """Compute the loss of predicting this batch's mean target for every token; arguments as of ``loss``."""


def compute_loss(head: nn.Module, pred: Values, target: Values, key: str = "head") -> Values:
    """Compute the loss of a head.

    Args:
        head (nn.Module): A head with ``loss(pred, target)``, of mmpretrain too.
        pred (Tensor | dict[str, Tensor]): Predicted features or logits (M, D), of several targets by name.
        target (Tensor | dict[str, Tensor]): True features (M, D) or classes (M,), of several targets by name.
        key (str): The head's config key, for messages. Defaults to "head".

    Returns:
        Tensor | dict[str, Tensor]: A scalar, of several targets by name.

    Raises:
        ValueError: If the head does not fit.
    """
    with foreign_call(key, head, _HEADS):
        return cast(Callable[..., Any], head.loss)(pred, target)


def loss_settings(head: nn.Module) -> dict | None:
    """Return the settings from which the loss of a head is built again, None if the head does not tell them."""
    return getattr(head, "loss_settings", None)


def is_foreign(module: nn.Module) -> bool:
    """Tell whether a module is one of OpenMMLab's, not of this package or the user."""
    return type(module).__module__.startswith(("mmpretrain.", "mmaction.", "mmdet."))


@contextmanager
def foreign_call(key: str, module: nn.Module, fits: str) -> Iterator[None]:
    """Turn the errors of another package's component into one that says what fits.

    Errors of other components, and of too little memory, are left as they are.

    Args:
        key (str): Argument of the caller that the component is, for the message.
        module (nn.Module): The component.
        fits (str): Sentences that say what is asked of the component, and which ones fit.

    Raises:
        ValueError: If the component fails.
    """
    try:
        yield
    except _BARE as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_foreign(module):
            raise
        name = f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"
        reason = textwrap.shorten(str(error) or type(error).__name__, 150, placeholder=" ...")
        raise ValueError(f"{key}: {name} does not fit here ({reason}). {fits}") from error
