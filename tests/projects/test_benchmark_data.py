"""Tests of the comparison of data pipelines: both sides give the same clips, and the file is always the same."""

import numpy as np
import torch

from projects.benchmark.data import data_comparison


def test_both_give_the_same_batch(tmp_path):
    comparison = data_comparison(tmp_path)
    ours, theirs = comparison.ours(), comparison.theirs()
    assert [tuple(x.shape) for x in ours["inputs"]] == [(1, 3, 16, 224, 224)] * 4
    for x, y in zip(ours["inputs"], theirs["inputs"], strict=True):
        assert x.dtype == torch.uint8 and torch.equal(x, y)
    for side in (ours, theirs):
        for sample in side["data_samples"]:
            mask = np.asarray(sample.mask)
            assert mask.shape == (8, 14, 14) and mask.sum() == 4 * round(0.4 * 8 * 7 * 7)
    again = comparison.ours()
    assert all(torch.equal(x, y) for x, y in zip(ours["inputs"], again["inputs"], strict=True))
