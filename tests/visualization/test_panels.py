"""Tests of strips of frames and of labelled pages."""

import numpy as np
import pytest

from maskfeat_plugin.visualization import compose, strip


def frames(count, side=224, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def test_a_strip_shows_the_first_and_the_last_frame():
    clip = frames(4)
    shown = strip(clip, max_frames=3)
    assert shown.shape == (224, 3 * 224 + 2 * 6, 3)
    np.testing.assert_array_equal(shown[:, :224], clip[0])
    np.testing.assert_array_equal(shown[:, -224:], clip[3])
    assert (shown[:, 224:230] == 255).all()
    np.testing.assert_array_equal(strip(clip[:1]), clip[0])
    assert strip(frames(9, side=20), max_frames=None).shape == (20, 9 * 20 + 8 * 6, 3)


def test_columns_are_labelled_above_their_frames():
    panel = {title: strip(frames(3, seed=seed)) for seed, title in enumerate("ab")}
    plain, page = compose(panel), compose(panel, columns=["frame 0", "frame 2", "frame 4"])
    assert page.shape == (plain.shape[0] + 26, *plain.shape[1:])
    np.testing.assert_array_equal(page[8 + 26 :], plain[8:])
    dark = np.flatnonzero((page[8:30] < 100).any((0, 2)))
    assert all(((dark >= left) & (dark < left + 100)).any() for left in (8, 8 + 230, 8 + 460))
    assert not ((dark > 110) & (dark < 8 + 228)).any()


def test_strips_are_below_each_other_and_images_in_a_row():
    assert compose({title: strip(frames(4)) for title in "abcd"}).shape[0] > 4 * 224
    panel = {title: frames(1, seed=seed)[0] for seed, title in enumerate(("one", "two", "three", "four"))}
    page = compose(panel, gap=8)
    assert page.dtype == np.uint8
    assert page.shape[0] < 2 * 224 < 4 * 224 < page.shape[1]
    for i, picture in enumerate(panel.values()):
        left = 8 + i * 232
        np.testing.assert_array_equal(page[-232:-8, left : left + 224], picture)
        assert page[8:26, left : left + 224].min() < 100  # its label


def test_pictures_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        compose({"a": frames(1)[0], "b": frames(1, side=32)[0]})
