"""Data set of clips in proportion to the durations of the videos, with several clips of each opened file."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Protocol, runtime_checkable

import numpy as np
from mmengine.dataset.base_dataset import BaseDataset, force_full_init
from mmengine.logging import print_log

from maskfeat_plugin.registry import DATASETS

from .repeat_aug import check_several_clips
from .video import VideoDataset


@runtime_checkable
class DrawsFiles(Protocol):
    """Data set that draws the file of a sample when it reads the sample. Its ``get_data_info`` takes file numbers."""

    def count_files(self) -> int:
        """Return the number of files."""

    def draw_file(self, idx: int) -> int:
        """Draw the file of a sample and return its number."""

    def read_file(self, file: int) -> object:
        """Read a sample of a file."""


@DATASETS.register_module()
class ClipsByDuration(VideoDataset):
    """Clips of videos in proportion to their durations, with ``clips_per_file`` clips of each opened file.

    All files form one timeline, one after the other. The length of an epoch follows from ``clips_per_minute``. Each
    sample is drawn from its own part of the timeline; all parts have the same length. So in an epoch, the number of
    times that a file is opened differs from the expected number by less than 2, with any seed. If the expected number
    of a short file is below 1, it is the probability that an epoch opens the file.

    A sample is a list of ``clips_per_file`` clips of one file. The frame sampler of the pipeline places the clips: one
    at random in each of the equal parts of the file. Collate them with ``repeat_pseudo_collate``. The batch size counts
    files::

        train_dataloader = dict(
            batch_size=2,  # files: 8 clips
            collate_fn=dict(type="repeat_pseudo_collate"),
            dataset=dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="maskfeat.ClipsByDuration",
                clips_per_minute=2,
                clips_per_file=4,
                ann_file="archive.parquet",
                pipeline=...,
            ),
        )

    Args:
        ann_file (str): The manifest of ``maskfeat index``, which contains the durations. Defaults to "".
        pipeline (Sequence[dict | Callable]): The transforms. The first opens the video, the second samples the frames
            of one clip and accepts ``num_clips``, the third decodes them.
        clips_per_minute (float, optional): Average number of clips per minute of video in an epoch. Defaults to None.
        clips_per_epoch (int, optional): Number of clips of all files in an epoch, instead of ``clips_per_minute``.
            Defaults to None.
        clips_per_file (int): Number of clips of a file each time that it is opened. Defaults to 4.
        **kwargs: Further arguments of :class:`VideoDataset`.

    Raises:
        ValueError: If not exactly one of ``clips_per_minute`` and ``clips_per_epoch`` is set, if a number is not
            positive, if the pipeline begins with other transforms, or if no file has a duration.
    """

    def __init__(
        self,
        ann_file: str = "",
        pipeline: Sequence[dict | Callable] = (),
        clips_per_minute: float | None = None,
        clips_per_epoch: int | None = None,
        clips_per_file: int = 4,
        **kwargs: object,
    ) -> None:
        rates = dict(clips_per_minute=clips_per_minute, clips_per_epoch=clips_per_epoch)
        if sum(rate is not None for rate in rates.values()) != 1:
            raise ValueError("ClipsByDuration: set either clips_per_minute or clips_per_epoch.")
        for name, value in dict(rates, clips_per_file=clips_per_file).items():
            if value is not None and not value > 0:
                raise ValueError(f"ClipsByDuration: {name}={value} must be greater than 0.")
        check_several_clips("ClipsByDuration", pipeline)
        opener, sampler, *others = pipeline
        if not isinstance(sampler, dict) or sampler.get("num_clips", 1) != 1:
            raise ValueError(
                "ClipsByDuration: the second transform of the pipeline must sample the frames of one clip, in a dict "
                f"without num_clips, got {sampler}. To get more clips, set clips_per_file."
            )
        self.clips_per_minute, self.clips_per_epoch = clips_per_minute, clips_per_epoch
        self.clips_per_file = clips_per_file
        super().__init__(ann_file, [opener, dict(sampler, num_clips=clips_per_file), *others], **kwargs)

    def full_init(self) -> None:
        """Read the manifest, and compute the timeline of the files."""
        if self._fully_initialized:
            return
        super().full_init()
        if not self.serialize_data:
            self._ends = _timeline(self.data_list)

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        self._ends = _timeline(self.data_list)  # while the data are still a list: unpacking millions takes long
        return super()._serialize_data()

    @force_full_init
    def __len__(self) -> int:
        clips = self.clips_per_epoch or self.clips_per_minute * self._ends[-1] / 60
        return max(1, round(clips / self.clips_per_file))

    def __getitem__(self, idx: int) -> list[dict]:
        """Draw the file of a sample and read its clips.

        Args:
            idx (int): The number of the sample, from 0 to the length.

        Returns:
            list[dict]: ``clips_per_file`` clips, in the order of time.
        """
        return self.read_file(self.draw_file(idx))

    @force_full_init
    def count_files(self) -> int:
        """Return the number of files."""
        return BaseDataset.__len__(self)

    @force_full_init
    def draw_file(self, idx: int) -> int:
        """Draw the file of a sample: the file at a random time in the sample's part of the timeline.

        Args:
            idx (int): The number of the sample.

        Returns:
            int: The number of the file.
        """
        count = len(self)
        time = (idx % count + np.random.random()) / count * self._ends[-1]
        # rounding can give the end of the timeline itself
        return min(int(np.searchsorted(self._ends, time, side="right")), len(self._ends) - 1)

    def read_file(self, file: int) -> list[dict]:
        """Read the clips of a file.

        Args:
            file (int): The number of the file.

        Returns:
            list[dict]: ``clips_per_file`` clips, in the order of time.
        """
        return super().__getitem__(file)

    def prepare_data(self, idx: int) -> list[dict]:
        """Open and decode a file once, and apply the other transforms to each of its clips.

        Args:
            idx (int): The number of the file.

        Returns:
            list[dict]: The clips.
        """
        info = self.get_data_info(idx)
        for transform in self.pipeline.transforms[:3]:
            info = transform(info)
        frames = info.pop("imgs")
        info["num_clips"], length = 1, len(frames) // self.clips_per_file
        clips = []
        for start in range(0, len(frames), length):
            clip = dict(deepcopy(info), imgs=frames[start : start + length])
            clip["frame_inds"] = info["frame_inds"][start : start + length]
            for transform in self.pipeline.transforms[3:]:
                clip = transform(clip)
            clips.append(clip)
        return clips

    def _rand_another(self) -> int:
        return np.random.randint(self.count_files())


def _timeline(samples: Sequence[dict]) -> np.ndarray:
    """Compute when each file ends, in seconds from the start of the first. Files without a duration have length 0."""
    durations = np.array([sample.get("duration") or 0 for sample in samples], np.float64)
    known = durations > 0  # False for NaN, too
    if not known.any():
        raise ValueError(
            "ClipsByDuration: no file has a duration. Write a manifest with maskfeat index, and set ann_file to it."
        )
    if not known.all():
        print_log(
            f"{np.count_nonzero(~known)} of {len(known)} files have no duration and are left out, such as "
            f"{samples[int(np.argmin(known))].get('filename')}.",
            "current",
            logging.WARNING,
        )
    return np.cumsum(np.where(known, durations, 0))
