"""Repeated augmentation of decoded clips."""

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
    """``mmaction.RepeatAugDataset`` that takes ``maskfeat.OpenVideo`` and ``maskfeat.DecodeClip`` as well.

    Upstream's decodes a video once for all its clips, by the first three transforms of the pipeline, and refuses those
    that are not called ``DecordInit`` and ``DecordDecode``. Lists are read as :class:`VideoDataset` does.

    Args:
        ann_file (str): Path of the annotation file.
        pipeline (Sequence[dict | Callable]): The transforms; the first opens the video, the second samples frames,
            the third decodes them.
        data_prefix (dict, optional): The folder of the videos, ``video``. Defaults to None, none.
        num_repeats (int): Clips of each video. Defaults to 4.
        sample_once (bool): Whether all of them are of the same frames. Defaults to False.
        multi_class (bool): Whether a video has several labels. Defaults to False.
        num_classes (int, optional): Classes, needed by ``multi_class``. Defaults to None.
        start_index (int): Number of the first frame. Defaults to 0.
        modality (str): What the files hold. Defaults to "RGB".
        **kwargs: Further arguments of :class:`VideoDataset`.

    Raises:
        ValueError: If the pipeline begins otherwise.
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

        Upstream's hides the rate of the file from the sampler, so that ``target_fps`` has no effect.

        Args:
            idx (int): Number of the video.

        Returns:
            list[dict]: A sample for each clip.
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
    """Check that a pipeline opens a video, samples frames and decodes them: this is done once for several clips.

    Args:
        name (str): Name of the data set, for the message.
        pipeline (Sequence[dict | Callable]): The transforms.

    Raises:
        ValueError: If the pipeline begins otherwise.
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
