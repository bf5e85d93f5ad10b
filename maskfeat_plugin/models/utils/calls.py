"""Calls of necks and heads, from this package or others, with one target or with several targets by name."""

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn

T = TypeVar("T")
# The value of a single target, or a dict with the values of several targets
Values = TypeVar("Values", bound=Tensor | dict[str, Tensor])

ONLY = ""
"""Key of the only value if there is a single target."""

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
        dict[str, T]: The values. The value of a single target has the key :data:`ONLY`.
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


def predict_features(
    neck: nn.Module, tokens: Tensor | tuple[Tensor, ...], key: str = "neck"
) -> Tensor | dict[str, Tensor]:
    """Predict the features of the masked tokens.

    Args:
        neck (nn.Module): A neck. Necks of this package or of the user are called with the tokens, necks of OpenMMLab
            with a tuple that holds them. If the neck returns a tuple, the last element is used.
        tokens (Tensor | tuple[Tensor, ...]): The masked tokens (M, C), of one layer or of several.
        key (str): The neck's config key, for messages. Defaults to "neck".

    Returns:
        Tensor | dict[str, Tensor]: (M, D), or a dict by name for several targets.

    Raises:
        ValueError: If the neck does not accept the tokens.
    """
    with foreign_call(key, neck, _NECKS):
        pred = neck((tokens,) if is_foreign(neck) else tokens)
    return pred[-1] if isinstance(pred, tuple) else pred


@runtime_checkable
class HeadWithBaseline(Protocol):
    """Head that can also compute the loss of a prediction that knows nothing about the input."""

    def baseline(self, pred: Values, target: Values) -> Values:
        """Compute the loss of predicting this batch's mean target for every token; arguments as of ``loss``."""


def compute_loss(head: nn.Module, pred: Values, target: Values, key: str = "head") -> Values:
    """Compute the loss of a head.

    Args:
        head (nn.Module): A head with ``loss(pred, target)``, from this package or another.
        pred (Tensor | dict[str, Tensor]): Predicted features or logits (M, D), by name for several targets.
        target (Tensor | dict[str, Tensor]): True features (M, D) or classes (M,), by name for several targets.
        key (str): The head's config key, for messages. Defaults to "head".

    Returns:
        Tensor | dict[str, Tensor]: A scalar, or a dict of scalars by name for several targets.

    Raises:
        ValueError: If the head does not accept the features.
    """
    with foreign_call(key, head, _HEADS):
        return cast(Callable[..., Any], head.loss)(pred, target)


def loss_settings(head: nn.Module) -> dict | None:
    """Return the settings to build the loss of a head again, None if the head has no ``loss_settings``."""
    return getattr(head, "loss_settings", None)


def is_foreign(module: nn.Module) -> bool:
    """Check whether a module comes from OpenMMLab, and not from this package or the user."""
    return type(module).__module__.startswith(("mmpretrain.", "mmaction.", "mmdet.", "mmseg."))


def takes_argument(function: Callable[..., Any], name: str) -> bool:
    """Tell whether a function takes an argument of a name, so that users' components need not have all arguments.

    Args:
        function (Callable): The function.
        name (str): Name of the argument.

    Returns:
        bool: Whether it does.
    """
    return name in inspect.signature(function).parameters


@contextmanager
def foreign_call(key: str, module: nn.Module, fits: str) -> Iterator[None]:
    """Convert the errors of another package's component to one error that says which components fit.

    Errors of other components, and errors about too little memory, stay as they are.

    Args:
        key (str): Argument of the caller that names the component, for the message.
        module (nn.Module): The component.
        fits (str): Sentences for the message: the requirements, and components that meet them.

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
