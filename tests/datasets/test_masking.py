"""Mask generators: counts, shapes, randomness, and the distributions that the methods define."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmpretrain.datasets import BEiTMaskGenerator
from scipy import ndimage

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.datasets.transforms.masking.random_blocks import size_probabilities
from maskfeat_plugin.registry import TRANSFORMS

IMAGE = ("BlockMaskGenerator", "RandomMaskGenerator")
CLIP = ("CubeMaskGenerator", "TubeMaskGenerator", "FrameMaskGenerator", "RandomMaskGenerator")


def build(name, **kwargs):
    return TRANSFORMS.build(dict(type=f"maskfeat.{name}", **kwargs))


def draw(name, count=1, **kwargs):
    generator = build(name, **kwargs)
    return np.stack([generator({})["mask"] for _ in range(count)])


def expected(ratio, size):
    return min(max(round(ratio * size), 1), size - 1)


sides = st.integers(2, 12)
ratios = st.floats(0.01, 0.99)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(IMAGE), sides, sides, ratios, st.integers(0, 2**31))
def test_image_masks_have_the_exact_count(name, height, width, ratio, seed):
    mask = draw(name, token_grid=(height, width), mask_ratio=ratio, seed=seed)[0]
    assert mask.dtype == bool and mask.shape == (height, width)
    assert mask.sum() == expected(ratio, height * width)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(CLIP), sides, sides, sides, ratios, st.integers(0, 2**31))
def test_clip_masks_have_the_exact_count(name, steps, height, width, ratio, seed):
    mask = draw(name, token_grid=(steps, height, width), mask_ratio=ratio, seed=seed)[0]
    assert mask.dtype == bool and mask.shape == (steps, height, width)
    per_step = mask.reshape(steps, -1).sum(1)
    if name == "TubeMaskGenerator":
        assert (mask == mask[0]).all() and per_step[0] == expected(ratio, height * width)
    elif name == "FrameMaskGenerator":
        assert set(per_step.tolist()) == {0, height * width}
        assert (per_step > 0).sum() == expected(ratio, steps)
    else:
        assert mask.sum() == expected(ratio, mask.size)


@pytest.mark.parametrize("name", CLIP)
def test_window_size_masks_whole_places_of_the_window(name):
    masks = draw(name, 20, token_grid=(8, 14, 14), window_size=(8, 7, 7), seed=1)
    places = masks.reshape(20, 8, 7, 2, 7, 2)
    assert (places == places[:, :, :, :1, :, :1]).all()
    if name in ("CubeMaskGenerator", "RandomMaskGenerator"):
        assert (masks.sum((1, 2, 3)) == 157 * 4).all()  # 40 % of the 392 places of the authors' window


def test_a_seed_fixes_the_stream_and_the_mask_of_a_sample():
    first, again, other = (draw("CubeMaskGenerator", 5, token_grid=(4, 6, 6), seed=s) for s in (3, 3, 4))
    assert (first == again).all() and (first != other).any()
    assert (first[0] != first[1]).any()
    generator = build("CubeMaskGenerator", token_grid=(4, 6, 6), seed=3)
    by_index = [generator(dict(sample_idx=i))["mask"] for i in (7, 8, 7)]
    assert (by_index[0] == by_index[2]).all() and (by_index[0] != by_index[1]).any()


@pytest.mark.parametrize("name", ["BlockMaskGenerator", "RandomMaskGenerator"])
def test_without_a_seed_numpys_global_seed_decides(name):
    masks = []
    for seed in (0, 0, 1):
        np.random.seed(seed)
        masks.append(draw(name, 3, token_grid=(14, 14)))
    assert (masks[0] == masks[1]).all() and (masks[0] != masks[2]).any()
    assert (masks[0][0] != masks[0][1]).any()


def test_each_clip_of_a_sample_gets_its_own_mask():
    results = dict(imgs=np.zeros((3, 3, 8, 32, 32), np.uint8))
    mask = build("CubeMaskGenerator", token_grid=(4, 4, 4))(results)["mask"]
    assert mask.shape == (3, 4, 4, 4)
    assert (mask[0] != mask[1]).any()


def test_stands_in_a_pipeline_of_another_scope():
    pipeline = Compose([dict(type="maskfeat.BlockMaskGenerator", token_grid=(14, 14))])
    assert pipeline({})["mask"].sum() == 78


def adjacent_pairs(masks):
    """Compute the share of right neighbours of masked tokens that are masked too."""
    return (masks[..., 1:] & masks[..., :-1]).sum() / masks[..., :-1].sum()


def test_blocks_are_distributed_as_beits():
    """Our masks have the statistics of mmpretrain's generator of the same method: count, places, clusters.

    Blocks of mmpretrain never reach the last row and column, because ``randint`` excludes the upper bound. Its masks on
    14 x 14 therefore correspond to our masks on 13 x 13.
    """
    peer = BEiTMaskGenerator(input_size=14, num_masking_patches=78, min_num_patches=15)
    np.random.seed(0)
    theirs = np.stack([peer({})["mask"] for _ in range(2000)]).astype(bool)
    assert not theirs[:, -1].any() and not theirs[:, :, -1].any()
    theirs = theirs[:, :13, :13]
    settings = dict(token_grid=(13, 13), mask_ratio=78 / 169, min_num_patches=15)
    ours = draw("BlockMaskGenerator", 2000, seed=0, **settings)
    assert set(ours.sum((1, 2)).tolist()) == set(theirs.sum((1, 2)).tolist()) == {78}
    # 2000 masks: the standard error of a token's frequency is 0.011
    assert abs(ours.mean(0) - theirs.mean(0)).max() < 0.06
    assert abs(adjacent_pairs(ours) - adjacent_pairs(theirs)) < 0.02
    assert adjacent_pairs(ours) > 0.7 > adjacent_pairs(draw("RandomMaskGenerator", 200, token_grid=(13, 13), seed=0))


# Measured with the authors' code (mean, standard deviation, number of connected components). Its masks have at most
# 78 of 196 and 157 of 392 places.
AUTHORS = dict(
    BlockMaskGenerator=((14, 14), 0.3956, 0.0049, 1.42, 78 / 196),
    CubeMaskGenerator=((8, 7, 7), 0.3971, 0.0042, 1.11, 157 / 392),
)


@pytest.mark.parametrize("name", AUTHORS)
def test_inexact_masks_have_the_statistics_of_the_authors(name):
    grid, mean, deviation, components, greatest = AUTHORS[name]
    masks = draw(name, 4000, token_grid=grid, seed=0, exact=False)
    ratios = masks.reshape(len(masks), -1).mean(1)
    assert abs(ratios.mean() - mean) < 0.0003
    assert abs(ratios.std() - deviation) < 0.0005
    assert ratios.min() > 0.3 and ratios.max() == greatest
    labelled = [ndimage.label(mask) for mask in masks]
    assert abs(np.mean([count for _, count in labelled]) - components) < 0.03
    if name == "CubeMaskGenerator":  # most exact masks contain a single token, from filling up the rest
        assert all(np.bincount(labels.ravel())[1:].min() > 1 for labels, _ in labelled)


def test_inexact_masks_of_a_grid_without_blocks_have_the_exact_count():
    masks = draw("BlockMaskGenerator", 20, token_grid=(1, 10), seed=0, exact=False)
    assert (masks.sum((1, 2)) == 4).all()


class OneCandidate:
    """Source of random numbers for one candidate. The next candidates do not fit, and no single place fills up."""

    def __init__(self, rng):
        self.numbers = rng.random(2)

    def random(self, count):
        numbers = np.full(count, 2.0)  # beyond the probabilities of all sizes
        numbers[:2], self.numbers = self.numbers, 2.0
        return numbers

    def permutation(self, places):
        return places[:0]


def extent(mask):
    """Return the only block of a mask as slices; None if there is none."""
    if not mask.any():
        return None
    places = np.argwhere(mask)
    block = tuple(slice(first, last + 1) for first, last in zip(places.min(0), places.max(0), strict=True))
    assert mask[block].all()
    return block


def test_first_cube_has_the_area_and_the_duration_of_the_method():
    """With a ratio close to 1, any first cube fits, so the statistics of first cubes equal the definition."""
    generator = build("CubeMaskGenerator", token_grid=(8, 14, 14), mask_ratio=0.99)
    candidates = []
    rng = np.random.default_rng(0)
    while len(candidates) < 4000:
        block = extent(generator.generate(OneCandidate(rng)))
        if block is not None:
            candidates.append(block)
    t, h, w = (np.array([c[i].stop - c[i].start for c in candidates]) for i in range(3))
    front, top = (np.array([c[i].start for c in candidates]) for i in range(2))
    # the duration is uniform over 1 to 8 steps
    assert set(t.tolist()) == set(range(1, 9))
    assert abs(t.mean() - 4.5) < 4 * math.sqrt(63 / 12 / len(t))
    # the area is between a fifth of a time step and a whole one, up to rounding, and never spans a side
    assert (h * w).min() >= 0.8 * 196 // 5 and (h * w).max() <= 13 * 13
    assert max(h.max(), w.max()) == 13
    # the aspect ratio is symmetric and within 0.3 and its inverse, up to rounding
    assert abs(np.log(h / w).mean()) < 0.05
    assert (h / w).min() >= 0.25 and (h / w).max() <= 4
    # all places where a cube fits have the same probability
    assert abs(front[t == 5].mean() - 1.5) < 0.2
    assert abs(top[h == 10].mean() - 2.0) < 0.2


@pytest.mark.parametrize("least, greatest, min_aspect", [(15, 78, 0.3), (9, 2, 0.3), (20, 20, 0.5), (4, 30, 1.0)])
def test_the_table_of_sizes_is_the_law_of_the_method(least, greatest, min_aspect):
    """Compare the table with a million draws of area and aspect ratio, rounded: equal within four standard errors."""
    draws = 1_000_000
    rng = np.random.default_rng(0)
    area = rng.uniform(*sorted((least, greatest)), draws)
    aspect = min_aspect ** rng.uniform(-1, 1, draws)
    sides = (np.maximum(np.rint(np.sqrt(x)), 1).astype(int) for x in (area * aspect, area / aspect))
    drawn = np.zeros((100, 100))
    np.add.at(drawn, tuple(sides), 1 / draws)
    table = size_probabilities((14, 12), least, greatest, min_aspect)
    assert table.shape == (13, 11) and 0.5 < table.sum() < 1 + 1e-9
    error = np.sqrt(table * (1 - table) / draws)
    assert (abs(table - drawn[1:14, 1:12]) <= 4 * error + 1e-6).all()


def test_blocks_of_one_shape():
    """With min_aspect=1 all blocks are squares. Overlaps can have other shapes, but the first block is a square."""
    generator = build("BlockMaskGenerator", token_grid=(14, 14), mask_ratio=0.9, min_num_patches=16, min_aspect=1.0)
    rng = np.random.default_rng(0)
    blocks = [extent(generator.generate(OneCandidate(rng))) for _ in range(100)]
    sides = {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in filter(None, blocks)}
    assert sides and all(4 <= height == width <= 13 for height, width in sides)


def test_a_grid_of_one_row_or_column_has_no_blocks_but_the_count():
    for grid in ((1, 14), (9, 1)):
        assert draw("BlockMaskGenerator", 3, token_grid=grid).sum((1, 2)).tolist() == [round(0.4 * max(grid))] * 3
    assert draw("CubeMaskGenerator", token_grid=(5, 1, 1), mask_ratio=0.6).sum() == 3


def test_cubes_are_contiguous_in_time():
    masks = draw("CubeMaskGenerator", 200, token_grid=(8, 14, 14), seed=0)
    in_time = (masks[:, 1:] & masks[:, :-1]).sum() / masks[:, :-1].sum()
    frames = draw("RandomMaskGenerator", 200, token_grid=(8, 14, 14), seed=0)
    alone = (frames[:, 1:] & frames[:, :-1]).sum() / frames[:, :-1].sum()
    assert in_time > 0.6 and abs(alone - 0.4) < 0.02


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        ("BlockMaskGenerator", dict(token_grid=(14, 14), mask_ratio=0), r"mask_ratio=0 is outside \(0, 1\)"),
        ("CubeMaskGenerator", dict(token_grid=(8, 14, 14), mask_ratio=1.0), r"mask_ratio=1.0 is outside \(0, 1\)"),
        ("RandomMaskGenerator", dict(token_grid=(14, 14), mask_ratio=-0.2), r"outside \(0, 1\)"),
        ("BlockMaskGenerator", dict(token_grid=(8, 14, 14)), r"token_grid=.* \(H', W'\)"),
        ("CubeMaskGenerator", dict(token_grid=(14, 14)), r"token_grid=.* \(T', H', W'\)"),
        ("RandomMaskGenerator", dict(token_grid=(14, 0)), "positive integers"),
        ("RandomMaskGenerator", dict(token_grid=14), "positive integers"),
        ("RandomMaskGenerator", dict(token_grid=(1, 1)), "one token"),
        ("FrameMaskGenerator", dict(token_grid=(1, 4, 4)), "one time step"),
        ("CubeMaskGenerator", dict(token_grid=(8, 14, 14), window_size=(8, 5, 5)), "does not divide"),
        ("CubeMaskGenerator", dict(token_grid=(8, 14, 14), min_num_patches=0), "min_num_patches=0"),
        ("BlockMaskGenerator", dict(token_grid=(14, 14), min_aspect=0), "min_aspect=0"),
    ],
)
def test_bad_settings_name_the_key(name, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(name, **kwargs)
