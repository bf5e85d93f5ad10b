"""Data sets and transforms."""

from . import transforms

__all__ = ["transforms"]
