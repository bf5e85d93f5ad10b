"""Cached: deterministic transforms run once per sample, and no caller can change the kept results."""

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset

from maskfeat_plugin.registry import TRANSFORMS

CALLS = []


@TRANSFORMS.register_module(force=True)
class CountedRead(BaseTransform):
    """Transform that imitates reading a file: it counts calls, and returns None for the damaged sample."""

    def transform(self, results):
        CALLS.append(results["number"])
        if results["number"] < 0:
            return None
        return dict(results, img=np.full((2, 2), results["number"], np.uint8))


@TRANSFORMS.register_module(force=True)
class InPlace(BaseTransform):
    """Transform that changes its input, as mmaction2's Flip does."""

    def transform(self, results):
        results["img"] += 100
        return results


def dataset(numbers):
    pipeline = [
        dict(type="maskfeat.Cached", transforms=[dict(type="maskfeat.CountedRead")]),
        dict(type="maskfeat.InPlace"),
    ]

    class Numbers(BaseDataset):
        def load_data_list(self):
            return [dict(number=n) for n in numbers]

    CALLS.clear()
    return Numbers(pipeline=pipeline, test_mode=True)


def test_each_sample_is_read_once_and_stays_whole():
    data = dataset([1, 2, 3])
    for _ in range(3):
        assert [int(data[i]["img"][0, 0]) for i in range(3)] == [101, 102, 103]
    assert CALLS == [1, 2, 3]


def test_a_broken_sample_is_not_kept():
    cached = TRANSFORMS.build(dict(type="maskfeat.Cached", transforms=[dict(type="maskfeat.CountedRead")]))
    CALLS.clear()
    assert cached(dict(number=-1, sample_idx=0)) is None
    assert cached(dict(number=-1, sample_idx=0)) is None
    assert CALLS == [-1, -1]


def test_nothing_to_run_is_an_error():
    with pytest.raises(ValueError, match="transforms is empty"):
        TRANSFORMS.build(dict(type="maskfeat.Cached", transforms=[]))
