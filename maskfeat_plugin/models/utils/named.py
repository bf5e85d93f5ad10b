"""Values of several targets by their names; the value of a single target has the name :data:`ONLY`."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

ONLY = ""


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
