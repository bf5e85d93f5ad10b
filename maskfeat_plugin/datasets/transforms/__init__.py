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
from .multi_view import MultiView
from .spectrogram import LoadSpectrogram
from .torchcodec_decoding import OpenVideoByTorchCodec
from .volumes import OpenVolume

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
    "LoadSpectrogram",
    "LoadWholeImage",
    "MovingResizedCrop",
    "MovingResizedCropFlip",
    "MultiView",
    "OpenVideo",
    "OpenVideoByTorchCodec",
    "OpenVolume",
    "RandomMaskGenerator",
    "RandomResizedCropFlip",
    "TrackCrop",
    "TubeMaskGenerator",
    "SampleAVAFrames",
]
