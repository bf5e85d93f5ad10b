"""Damaged files of a training: each is named in the log, and the report goes on without it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.errors import ConfigError, reading

# Whole numbers up to here are the same as float64, which charts compute with
LARGEST = 2**53
# Without handlers of its own: Python writes its warnings to stderr
_LOGGER = logging.getLogger(__name__)


@contextmanager
def left_out(path: Path, problem: str = "cannot be read") -> Iterator[None]:
    """Log whatever a block raises about a file, in one line, and go on.

    Args:
        path (Path): The file.
        problem (str): What is wrong with it then. Defaults to "cannot be read".
    """
    try:
        with reading(printable(path), problem):
            yield
    except ConfigError as error:
        _LOGGER.warning("%s It is left out of the report.", " ".join(str(error).split())[:1000])


def as_count(value: object, least: int = 0) -> int | None:
    """Return a number of iterations, or None for anything that cannot be one.

    Args:
        value (object): Of a file.
        least (int): The least number that makes sense. Defaults to 0.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= LARGEST else None


def parse_count(digits: str) -> int | None:
    """Return the number of iterations that digits say, or None if there are too many of them."""
    return as_count(int(digits)) if len(digits) <= len(str(LARGEST)) else None


def as_number(value: object) -> float | None:
    """Return a number as a float, or None for what is none or is beyond what a float holds."""
    if not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
