"""Data sets and transforms."""

from maskfeat_plugin.datasets import transforms
from maskfeat_plugin.datasets.ava import AVADataset
from maskfeat_plugin.datasets.bad_files import SkipBadFiles, TooManyBadFiles
from maskfeat_plugin.datasets.clips_by_duration import ClipsByDuration
from maskfeat_plugin.datasets.image import ImageDataset
from maskfeat_plugin.datasets.repeat_aug import RepeatAugDataset
from maskfeat_plugin.datasets.shard_sampler import ShardSampler
from maskfeat_plugin.datasets.video import VideoDataset
from maskfeat_plugin.datasets.video_reader import VideoReader

__all__ = [
    "AVADataset",
    "ClipsByDuration",
    "ImageDataset",
    "RepeatAugDataset",
    "ShardSampler",
    "SkipBadFiles",
    "TooManyBadFiles",
    "VideoDataset",
    "VideoReader",
    "transforms",
]
