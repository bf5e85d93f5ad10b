"""Data sets and transforms."""

from . import transforms
from .ava import AVADataset
from .bad_files import SkipBadFiles, TooManyBadFiles
from .image import ImageDataset
from .repeat_aug import RepeatAugDataset
from .video import VideoDataset
from .video_reader import VideoReader

__all__ = [
    "AVADataset",
    "ImageDataset",
    "RepeatAugDataset",
    "SkipBadFiles",
    "TooManyBadFiles",
    "VideoDataset",
    "VideoReader",
    "transforms",
]
