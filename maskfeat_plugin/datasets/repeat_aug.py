"""Repeated augmentation of decoded clips."""

from collections.abc import Sequence

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
        pipeline (Sequence[dict]): Configs of the transforms; the first opens the video, the second samples frames,
            the third decodes them.
        num_repeats (int): Clips of each video. Defaults to 4.
        sample_once (bool): Whether all of them are of the same frames. Defaults to False.
        **kwargs: Further arguments of :class:`VideoDataset`.

    Raises:
        ValueError: If the pipeline begins otherwise.
    """

    def __init__(
        self, ann_file: str, pipeline: Sequence[dict], num_repeats: int = 4, sample_once: bool = False, **kwargs
    ) -> None:
        kinds = [str(transform["type"]).rpartition(".")[2] for transform in pipeline[:3]]
        if len(kinds) < 3 or kinds[0] not in _OPENERS or kinds[2] not in _DECODERS:
            raise ValueError(
                f"RepeatAugDataset: the pipeline must begin with one of {_OPENERS}, a sampler of frames and one of "
                f"{_DECODERS}, got {kinds}."
            )
        super(_RepeatAugDataset, self).__init__(ann_file, pipeline=pipeline, test_mode=False, **kwargs)
        self.num_repeats = num_repeats
        self.sample_once = sample_once
