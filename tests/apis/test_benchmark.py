"""The benchmark compares like with like; its times are not asserted."""

import re

import torch

from maskfeat_plugin.apis.benchmark import Comparison, comparisons, describe_machine, format_table, measure


def test_both_sides_do_the_same_job():
    """The backbones start from the same weights, so outputs and gradients agree; HOG and masks have the same shapes."""
    hog, masked_hog, mvit, masks = comparisons(torch.device("cpu"))
    assert hog.ours().shape == hog.theirs().shape
    assert masked_hog.ours().shape == masked_hog.theirs().shape
    assert len(masks.ours()) == len(masks.theirs()) == 100
    assert {int(m["mask"].sum()) for m in masks.ours() + masks.theirs()} == {78}
    models = [fn.__closure__ for fn in (mvit.ours, mvit.theirs)]
    ours, theirs = (
        next(c.cell_contents for c in cells if isinstance(c.cell_contents, torch.nn.Module)) for cells in models
    )
    assert type(ours) is not type(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_the_table_shows_ratios():
    comparison = Comparison("count", "someone", lambda: sum(range(1000)), lambda: sum(range(50000)))
    ours, theirs = measure(comparison, 3, torch.device("cpu"))
    assert 0 < ours < theirs
    row = format_table([(comparison, 0.002, 0.005)]).splitlines()[-1]
    assert re.search(r"\| count \| 2\.0 \| 5\.0 \| someone \| 2\.5 \|", row)
    assert "threads" in describe_machine(torch.device("cpu"))
