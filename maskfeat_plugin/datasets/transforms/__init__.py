"""Transforms for data pipelines."""

from .ava import SampleAVAFrames
from .caching import Cached
from .label_maps import LoadLabelMap, TrackCrop
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
    "LoadLabelMap",
    "RandomMaskGenerator",
    "TrackCrop",
    "TubeMaskGenerator",
    "SampleAVAFrames",
]
