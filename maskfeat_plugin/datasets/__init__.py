"""Data sets and transforms."""

from . import transforms
from .ava import AVADataset

__all__ = ["AVADataset", "transforms"]
