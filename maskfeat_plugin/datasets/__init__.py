"""Data sets and transforms."""

from . import transforms
from .ava import AVADataset
from .bad_files import SkipBadFiles, TooManyBadFiles
from .clips_by_duration import ClipsByDuration
from .image import ImageDataset
from .repeat_aug import RepeatAugDataset
from .video import VideoDataset
from .video_reader import VideoReader

__all__ = [
    "AVADataset",
    "ClipsByDuration",
    "ImageDataset",
    "RepeatAugDataset",
    "SkipBadFiles",
    "TooManyBadFiles",
    "VideoDataset",
    "VideoReader",
    "transforms",
]
