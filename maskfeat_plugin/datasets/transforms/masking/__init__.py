"""Mask generators: which tokens of a sample are masked."""

from .base import BaseMaskGenerator
from .blockwise import BlockMaskGenerator, CubeMaskGenerator, TubeMaskGenerator
from .uniform import FrameMaskGenerator, RandomMaskGenerator

__all__ = [
    "BaseMaskGenerator",
    "BlockMaskGenerator",
    "CubeMaskGenerator",
    "FrameMaskGenerator",
    "RandomMaskGenerator",
    "TubeMaskGenerator",
]
