"""Data sets and transforms."""

from . import transforms
from .ava import AVADataset
from .repeat_aug import RepeatAugDataset
from .video_reader import VideoReader

__all__ = ["AVADataset", "RepeatAugDataset", "VideoReader", "transforms"]
