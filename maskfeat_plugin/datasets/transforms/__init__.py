"""Transforms for data pipelines."""

from .ava import SampleAVAFrames
from .caching import Cached
from .cropping import CentralCrop, CentralResizedCrop, MovingResizedCrop, MovingResizedCropFlip, RandomResizedCropFlip
from .decoding import DecodeClip, OpenVideo
from .formatting import FormatShape
from .label_maps import LoadLabelMap, TrackCrop
from .loading import LoadWholeImage
from .masking import (
    BaseMaskGenerator,
    BlockMaskGenerator,
    CubeMaskGenerator,
    FrameMaskGenerator,
    RandomMaskGenerator,
    TubeMaskGenerator,
)
from .torchcodec_decoding import OpenVideoByTorchCodec

__all__ = [
    "BaseMaskGenerator",
    "BlockMaskGenerator",
    "Cached",
    "CentralCrop",
    "CentralResizedCrop",
    "CubeMaskGenerator",
    "DecodeClip",
    "FormatShape",
    "FrameMaskGenerator",
    "LoadLabelMap",
    "LoadWholeImage",
    "MovingResizedCrop",
    "MovingResizedCropFlip",
    "OpenVideo",
    "OpenVideoByTorchCodec",
    "RandomMaskGenerator",
    "RandomResizedCropFlip",
    "TrackCrop",
    "TubeMaskGenerator",
    "SampleAVAFrames",
]
