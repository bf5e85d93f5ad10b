"""Calls of other packages' components, whose errors do not say what fits."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_BARE = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


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
