"""Transforms for data pipelines."""

from .caching import Cached
from .masking import (
    BaseMaskGenerator,
    BlockMaskGenerator,
    CubeMaskGenerator,
    FrameMaskGenerator,
    RandomMaskGenerator,
    TubeMaskGenerator,
)

__all__ = [
    "BaseMaskGenerator",
    "BlockMaskGenerator",
    "Cached",
    "CubeMaskGenerator",
    "FrameMaskGenerator",
    "RandomMaskGenerator",
    "TubeMaskGenerator",
]
