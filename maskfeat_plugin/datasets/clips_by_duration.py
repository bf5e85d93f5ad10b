"""Clips of videos in proportion to their durations, several of each opened file."""

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
    """A data set that draws the file of a sample when it is read. Its ``get_data_info`` takes numbers of files."""

    def count_files(self) -> int:
        """Return the number of files."""

    def draw_file(self, idx: int) -> int:
        """Draw the number of the file that a sample is of."""

    def read_file(self, file: int) -> object:
        """Read a sample of a file."""


@DATASETS.register_module()
class ClipsByDuration(VideoDataset):
    """Clips of videos in proportion to their durations, ``clips_per_file`` of each file that is opened.

    All files are one timeline, one after the other. An epoch has as many samples as it needs for ``clips_per_minute``,
    and each is drawn from its own equal part of the timeline. So in an epoch a file is opened as often as its
    share of the timeline says: of its exact expectation the number differs by less than 2, whatever the seed. A short
    file that expects less than one opening is opened with this probability, and another time in another epoch.

    A sample is a list of ``clips_per_file`` clips of one file. The frame sampler of the pipeline places them: one in
    each equal part of the file, at random. Collate them with ``repeat_pseudo_collate``; the batch size counts files::

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
        ann_file (str): The manifest of ``maskfeat index``, which has the durations. Defaults to "".
        pipeline (Sequence[dict | Callable]): The transforms. The first opens the video, the second samples the frames
            of one clip and takes ``num_clips``, the third decodes them.
        clips_per_minute (float, optional): Clips of a minute of video in an epoch, on average. Defaults to None.
        clips_per_epoch (int, optional): Clips of all files in an epoch, in the place of ``clips_per_minute``. Defaults
            to None.
        clips_per_file (int): Clips of a file each time that it is opened. Defaults to 4.
        **kwargs: Further arguments of :class:`VideoDataset`.

    Raises:
        ValueError: If not just one of ``clips_per_minute`` and ``clips_per_epoch`` is set, a number is not positive,
            the pipeline begins otherwise, or no file has a duration.
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
                f"without num_clips. Set clips_per_file for more, got {sampler}."
            )
        self.clips_per_minute, self.clips_per_epoch = clips_per_minute, clips_per_epoch
        self.clips_per_file = clips_per_file
        super().__init__(ann_file, [opener, dict(sampler, num_clips=clips_per_file), *others], **kwargs)

    def full_init(self) -> None:
        """Read the manifest, and lay the files on a timeline."""
        if self._fully_initialized:
            return
        super().full_init()
        if not self.serialize_data:
            self._ends = _timeline(self.data_list)

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        self._ends = _timeline(self.data_list)  # while they are a list: to unpack millions takes long
        return super()._serialize_data()

    @force_full_init
    def __len__(self) -> int:
        clips = self.clips_per_epoch or self.clips_per_minute * self._ends[-1] / 60
        return max(1, round(clips / self.clips_per_file))

    def __getitem__(self, idx: int) -> list[dict]:
        """Clips of the file that is drawn for a sample.

        Args:
            idx (int): Number of the sample, 0 to the length.

        Returns:
            list[dict]: ``clips_per_file`` clips, in the order of their time.
        """
        return self.read_file(self.draw_file(idx))

    @force_full_init
    def count_files(self) -> int:
        """Return the number of files."""
        return BaseDataset.__len__(self)

    @force_full_init
    def draw_file(self, idx: int) -> int:
        """Draw the file of a sample: of a random time in the sample's part of the timeline.

        Args:
            idx (int): Number of the sample.

        Returns:
            int: Number of the file.
        """
        count = len(self)
        time = (idx % count + np.random.random()) / count * self._ends[-1]
        # rounding may give the very end
        return min(int(np.searchsorted(self._ends, time, side="right")), len(self._ends) - 1)

    def read_file(self, file: int) -> list[dict]:
        """Read clips of a file.

        Args:
            file (int): Number of the file.

        Returns:
            list[dict]: ``clips_per_file`` clips, in the order of their time.
        """
        return super().__getitem__(file)

    def prepare_data(self, idx: int) -> list[dict]:
        """Open and decode a file once, and give each of its clips to the other transforms.

        Args:
            idx (int): Number of the file.

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
    """Compute when each file ends, in seconds from the begin of the first. Files without a duration have no part."""
    durations = np.array([sample.get("duration") or 0 for sample in samples], np.float64)
    known = durations > 0  # of NaN, too
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
