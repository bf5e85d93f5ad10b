"""Mask generators: transforms that choose the masked tokens of a sample."""

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
