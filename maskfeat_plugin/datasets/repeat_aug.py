"""Data set with repeated augmentation of decoded clips."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import islice

import numpy as np
from mmaction.datasets import RepeatAugDataset as _RepeatAugDataset

from maskfeat_plugin.registry import DATASETS

from .video import VideoDataset

_OPENERS = ("OpenVideo", "DecordInit")
_DECODERS = ("DecodeClip", "DecordDecode")


@DATASETS.register_module()
class RepeatAugDataset(VideoDataset, _RepeatAugDataset):
    """``mmaction.RepeatAugDataset`` that also accepts ``maskfeat.OpenVideo`` and ``maskfeat.DecodeClip``.

    mmaction2's class decodes a video once for all its clips, with the first three transforms of the pipeline. It
    refuses transforms with names other than ``DecordInit`` and ``DecordDecode``. Lists are read as by
    :class:`VideoDataset`.

    Args:
        ann_file (str): Path of the annotation file.
        pipeline (Sequence[dict | Callable]): The transforms. The first opens the video, the second samples frames, the
            third decodes them.
        data_prefix (dict, optional): The folder of the videos, ``video``. Defaults to None, none.
        num_repeats (int): Number of clips of each video. Defaults to 4.
        sample_once (bool): Whether all clips have the same frames. Defaults to False.
        multi_class (bool): Whether a video has several labels. Defaults to False.
        num_classes (int, optional): Number of classes, which ``multi_class`` needs. Defaults to None.
        start_index (int): Number of the first frame. Defaults to 0.
        modality (str): The kind of content. Defaults to "RGB".
        **kwargs: Further arguments of :class:`VideoDataset`.

    Raises:
        ValueError: If the pipeline begins with other transforms.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: Sequence[dict | Callable],
        data_prefix: dict | None = None,
        num_repeats: int = 4,
        sample_once: bool = False,
        multi_class: bool = False,
        num_classes: int | None = None,
        start_index: int = 0,
        modality: str = "RGB",
        **kwargs: object,
    ) -> None:
        check_several_clips("RepeatAugDataset", pipeline)
        super(_RepeatAugDataset, self).__init__(
            ann_file,
            pipeline=pipeline,
            data_prefix=dict(video="") if data_prefix is None else data_prefix,
            multi_class=multi_class,
            num_classes=num_classes,
            start_index=start_index,
            modality=modality,
            test_mode=False,
            **kwargs,
        )
        self.num_repeats = num_repeats
        self.sample_once = sample_once

    def prepare_data(self, idx: int) -> list[dict]:
        """Open a video once for all its clips.

        mmaction2's method does not pass the frame rate of the file to the sampler, so its ``target_fps`` has no effect.

        Args:
            idx (int): The number of the video.

        Returns:
            list[dict]: One sample for each clip.
        """
        opener, sampler, decoder, *others = self.pipeline.transforms
        opened = opener(self.get_data_info(idx))
        video = {key: opened[key] for key in ("total_frames", "start_index", "avg_fps") if key in opened}
        draws = [sampler(dict(video)) for _ in range(1 if self.sample_once else self.num_repeats)]
        indices = [draw["frame_inds"].reshape(-1) for draw in draws] * (self.num_repeats // len(draws))
        decoded = decoder({**opened, **draws[-1], "frame_inds": np.concatenate(indices)})
        images = iter(decoded.pop("imgs"))
        clips = []
        for chosen in indices:
            sample = dict(deepcopy(decoded), imgs=list(islice(images, len(chosen))))
            for transform in others:
                sample = transform(sample)
            clips.append(sample)
        return clips


def check_several_clips(name: str, pipeline: Sequence[dict | Callable]) -> None:
    """Check that a pipeline first opens a video, samples frames and decodes them. These steps run once for all clips.

    Args:
        name (str): The name of the data set, for the message.
        pipeline (Sequence[dict | Callable]): The transforms.

    Raises:
        ValueError: If the pipeline begins with other transforms.
    """
    kinds = [_kind(transform) for transform in pipeline[:3]]
    if len(kinds) < 3 or kinds[0] not in _OPENERS or kinds[2] not in _DECODERS:
        raise ValueError(
            f"{name}: the pipeline must begin with one of {_OPENERS}, a sampler of frames and one of "
            f"{_DECODERS}, got {kinds}."
        )


def _kind(transform: dict | Callable) -> str:
    """Return the name of a transform's class, without its scope."""
    kind = transform["type"] if isinstance(transform, dict) else type(transform)
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
