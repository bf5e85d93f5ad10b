"""Transforms for data pipelines."""

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
    "CubeMaskGenerator",
    "FrameMaskGenerator",
    "RandomMaskGenerator",
    "TubeMaskGenerator",
]
