"""Handling of damaged files of a training: the log names each of them, and the report leaves it out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.errors import ConfigError, reading

# Largest integer up to which all integers are exact in float64, which charts use
LARGEST = 2**53
# The logger has no handlers, so Python writes its warnings to stderr
_LOGGER = logging.getLogger(__name__)


@contextmanager
def left_out(path: Path, problem: str = "cannot be read") -> Iterator[None]:
    """Log an error that a block raises about a file in one line, and continue.

    Args:
        path (Path): The file.
        problem (str): Description of the problem for the log. Defaults to "cannot be read".
    """
    try:
        with reading(printable(path), problem):
            yield
    except ConfigError as error:
        _LOGGER.warning("%s It is left out of the report.", " ".join(str(error).split())[:1000])


def as_count(value: object, least: int = 0) -> int | None:
    """Return a value as a number of iterations, or None if it is not a valid number.

    Args:
        value (object): Value from a file.
        least (int): Smallest valid number. Defaults to 0.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= LARGEST else None


def parse_count(digits: str) -> int | None:
    """Convert digits to a number of iterations, or return None if there are too many digits."""
    return as_count(int(digits)) if len(digits) <= len(str(LARGEST)) else None


def as_number(value: object) -> float | None:
    """Return a number as a float, or None if the value is not a number or a float cannot hold it."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
