"""The benchmark compares like with like; its times are not asserted."""

import random
import re

import numpy as np
import torch

from maskfeat_plugin.apis.benchmark import (
    Comparison,
    comparisons,
    cubes_by_loops,
    describe_machine,
    format_table,
    measure,
)
from maskfeat_plugin.registry import TRANSFORMS


def test_both_sides_do_the_same_job():
    """The backbones start from the same weights, so outputs and gradients agree; HOG and masks have the same shapes."""
    hog, masked_hog, mvit, blocks, cubes = comparisons(torch.device("cpu"))
    assert hog.ours().shape == hog.theirs().shape
    assert masked_hog.ours().shape == masked_hog.theirs().shape
    for masks, shape, count in ((blocks, (14, 14), 78), (cubes, (8, 14, 14), 627)):
        drawn = masks.ours(), masks.theirs()
        assert len(drawn[0]) == len(drawn[1])
        assert {(m["mask"].shape, int(m["mask"].sum())) for m in drawn[0] + drawn[1]} == {(shape, count)}
    models = [fn.__closure__ for fn in (mvit.ours, mvit.theirs)]
    ours, theirs = (
        next(c.cell_contents for c in cells if isinstance(c.cell_contents, torch.nn.Module)) for cells in models
    )
    assert type(ours) is not type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_cubes_by_loops_are_the_generators():
    """Both are drawn 1000 times: where tokens are hidden and how they follow each other in time."""
    random.seed(0)
    loops = np.stack([cubes_by_loops((4, 6, 6), 0.4) for _ in range(1000)])
    generator = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=(4, 6, 6), seed=0))
    ours = np.stack([generator({})["mask"] for _ in range(1000)])
    assert abs(loops.mean(0) - ours.mean(0)).max() < 4.5 * (2 * 0.4 * 0.6 / 1000) ** 0.5
    together = [(masks[:, 1:] & masks[:, :-1]).mean() for masks in (loops, ours)]
    assert abs(together[0] - together[1]) < 0.01


def test_the_table_shows_ratios():
    comparison = Comparison("count", "someone", lambda: sum(range(1000)), lambda: sum(range(50000)))
    ours, theirs = measure(comparison, 3, torch.device("cpu"))
    assert 0 < ours < theirs
    row = format_table([(comparison, 0.002, 0.005)]).splitlines()[-1]
    assert re.search(r"\| count \| 2\.0 \| 5\.0 \| someone \| 2\.5 \|", row)
    assert "threads" in describe_machine(torch.device("cpu"))
