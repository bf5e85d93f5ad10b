"""Panels show what was seen, hidden, predicted and there."""

import numpy as np
import pytest
import torch

from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization import compose, make_panel, make_panel_frames
from maskfeat_plugin.visualization.panels import IMAGENET_MEAN, IMAGENET_STD, MASK_GREY

KINDS = ["original", "masked input", "predicted HOG", "true HOG"]


def sample(steps, seed=0):
    """Raw input, normalised input, mask, HOG of the masked and of all tokens (4 x 4 a step)."""
    rng = torch.Generator().manual_seed(seed)
    size = (32, 32) if steps is None else (2 * steps, 32, 32)
    raw = torch.randint(0, 256, (3, *size), generator=rng, dtype=torch.uint8)
    mean = torch.tensor(IMAGENET_MEAN).view(3, *[1] * len(size))
    std = torch.tensor(IMAGENET_STD).view(3, *[1] * len(size))
    normalised = (raw - mean) / std
    mask = torch.rand(steps or 1, 4, 4, generator=rng) < 0.4
    generator = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=4))
    masked = generator(normalised[None], mask[None])
    every = generator(normalised[None], torch.ones_like(mask)[None])
    return raw, normalised, mask, masked, every


@pytest.mark.parametrize("steps", [None, 4])
def test_panel_of_an_image_and_of_a_clip(steps):
    raw, normalised, mask, masked, every = sample(steps)
    panel = make_panel_frames(normalised, mask, masked, every, cell_size=4)
    assert list(panel) == KINDS
    for frames in panel.values():
        assert frames.shape == (steps or 1, 224, 224, 3)
        assert frames.dtype == np.uint8

    shown = raw[:, None] if steps is None else raw[:, ::2]  # (3, T', H, W)
    shown = shown.permute(1, 2, 3, 0).numpy().repeat(7, 1).repeat(7, 2)
    hidden = mask.numpy().repeat(56, 1).repeat(56, 2)
    np.testing.assert_array_equal(panel["original"], shown)  # normalisation undone
    np.testing.assert_array_equal(panel["masked input"][~hidden], shown[~hidden])
    assert (panel["masked input"][hidden] == MASK_GREY).all()

    # A perfect prediction has the strokes of the truth, in colour where masked, in grey elsewhere.
    truth, predicted = (panel[k].astype(float) for k in ("true HOG", "predicted HOG"))
    np.testing.assert_allclose(predicted[hidden][:, 0], truth[hidden][:, 0], atol=1)
    assert predicted[hidden][:, 2].sum() < 0.5 * predicted[hidden][:, 0].sum()
    assert (predicted[~hidden][:, 0] == predicted[~hidden][:, 2]).all()
    assert 0 < predicted[~hidden].sum() < 0.7 * truth[~hidden].sum()


def test_target_of_the_masked_tokens_alone_leaves_the_others_dark():
    _, normalised, mask, masked, _ = sample(2)
    panel = make_panel_frames(normalised, mask, masked.bfloat16(), masked, cell_size=4)
    hidden = mask.numpy().repeat(56, 1).repeat(56, 2)
    for kind in ("predicted HOG", "true HOG"):
        assert not panel[kind][~hidden].any()
        assert panel[kind][hidden].any()


def test_uint8_input_needs_no_normalisation():
    raw, normalised, mask, masked, every = sample(None)
    from_raw = make_panel(raw, mask[0], masked, every, cell_size=4)
    for kind, picture in make_panel(normalised, mask, masked, every, cell_size=4).items():
        np.testing.assert_array_equal(picture, from_raw[kind])


def test_strips_and_labelled_pages():
    _, clip, mask, masked, every = sample(4)
    panel = make_panel(clip, mask, masked, every, cell_size=4, max_frames=3)
    frames = make_panel_frames(clip, mask, masked, every, cell_size=4)["true HOG"]
    strip = panel["true HOG"]
    assert strip.shape == (224, 3 * 224 + 2 * 6, 3)
    np.testing.assert_array_equal(strip[:, :224], frames[0])
    np.testing.assert_array_equal(strip[:, -224:], frames[3])
    page = compose(panel)
    assert page.dtype == np.uint8
    assert page.shape[0] > 4 * 224  # strips below each other
    _, image, mask, masked, every = sample(None)
    panel = make_panel(image, mask, masked, every, cell_size=4)
    page = compose(panel, gap=8)
    assert page.shape[0] < 2 * 224 < 4 * 224 < page.shape[1]  # images in a row
    for i, picture in enumerate(panel.values()):
        left = 8 + i * 232
        np.testing.assert_array_equal(page[-232:-8, left : left + 224], picture)
        assert page[8:26, left : left + 224].min() < 100  # its label
    with pytest.raises(ValueError, match="one size"):
        compose({"a": strip, "b": frames[0]})


def test_small_cells_are_drawn_large_enough():
    image = torch.zeros(3, 224, 224)
    mask = torch.ones(1, 14, 14)
    panel = make_panel(image, mask, torch.zeros(196, 108), torch.zeros(196, 108))
    assert panel["true HOG"].shape == (448, 448, 3)


def test_misfits_are_named():
    _, image, mask, masked, every = sample(None)
    with pytest.raises(ValueError, match="cell_size=5"):
        make_panel(image, mask, masked, every, cell_size=5)
    with pytest.raises(ValueError, match="nbins"):
        make_panel(image, mask, masked, every, cell_size=4, nbins=18)
    with pytest.raises(ValueError, match="token grid"):
        make_panel(image, torch.ones(1, 5, 5), masked, every, cell_size=4)
    with pytest.raises(ValueError, match="inputs must be"):
        make_panel(image[0], mask, masked, every, cell_size=4)
