"""Tests of HOG drawings: strokes follow the edges, and features are at their positions in the grid."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import camera
from skimage.feature import hog as skimage_hog
from skimage.feature import structure_tensor

from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization import assemble_hog, draw_hog, unflatten_hog


def hog_of(image, **kwargs):
    """Compute the plugin's HOG (C, nbins, rows, cols) of an image (H, W) or (C, H, W)."""
    generator = MODELS.build(dict(type="maskfeat.HOGGenerator", **kwargs))
    image = torch.as_tensor(np.asarray(image), dtype=torch.float32)
    image = image if image.dim() == 3 else image[None]
    return generator.hog(image[None])[0]


def stroke_angle(drawing):
    """Return the direction of the lines in a drawing, in degrees from the x axis, counter-clockwise."""
    rr, rc, cc = structure_tensor(drawing[..., 0].astype(float), sigma=1, order="rc")
    # Lines are at right angles to the dominant gradient. Row numbers increase downwards.
    gradient = 0.5 * np.arctan2(-2 * rc.sum(), cc.sum() - rr.sum())
    return (np.degrees(gradient) + 90) % 180


@pytest.mark.parametrize("nbins", [9, 18])
@pytest.mark.parametrize("angle", [0, 25, 50, 75, 90, 115, 140, 165])
def test_strokes_run_along_the_edges(angle, nbins):
    # A wave. The angle of its crests is measured from the x axis, counter-clockwise in the picture.
    y, x = np.mgrid[:64, :64]
    across = x * np.sin(np.radians(angle)) + y * np.cos(np.radians(angle))
    drawing = draw_hog(hog_of(np.sin(across / 6), nbins=nbins), cell_pixels=25)
    error = (stroke_angle(drawing) - angle + 90) % 180 - 90
    assert abs(error) <= 90 / nbins + 2  # half a bin, and the error of the measurement


def test_a_vertical_edge_is_a_vertical_stroke():
    image = np.zeros((24, 24))
    image[:, 12:] = 1
    drawing = draw_hog(hog_of(image), cell_pixels=15)[..., 0]
    assert drawing.shape == (45, 45)
    columns, rows = drawing[:, 22], drawing[22]  # through the middle of the middle cell
    assert (columns > 200).mean() > 0.8
    assert (rows > 0).mean() < 0.2
    assert not drawing[:, :15].any()  # no strokes where the image is constant
    assert not drawing[:, 30:].any()


def test_agrees_with_skimage_on_a_photograph():
    image = camera()[32:480:2, 32:480:2] / 255.0  # (224, 224)
    features, picture = skimage_hog(image, 18, (16, 16), (1, 1), block_norm="L2", visualize=True, feature_vector=False)
    # The picture of skimage shows histograms before normalisation: give ours the same weights.
    norms = np.sqrt((picture.reshape(14, 16, 14, 16) ** 2).sum((1, 3)))
    ours = hog_of(image, nbins=18, cell_size=16)[0].numpy() * norms / norms.max()
    drawing = draw_hog(ours, cell_pixels=16)[..., 0].astype(float)

    def blurred_correlation(a, b):  # so that strokes one pixel wide overlap
        a, b = (x.reshape(56, 4, 56, 4).mean((1, 3)).ravel() for x in (a, b))
        return np.corrcoef(a, b)[0, 1]

    assert blurred_correlation(drawing, picture) > 0.85
    turned = draw_hog(np.roll(ours, 9, axis=0), cell_pixels=16)[..., 0].astype(float)
    mirrored = draw_hog(ours[::-1], cell_pixels=16)[..., 0].astype(float)
    assert blurred_correlation(turned, picture) < 0.7
    assert blurred_correlation(mirrored, picture) < 0.8


def test_colours_are_put_together():
    hog = torch.zeros(3, 9, 1, 1)
    hog[0, 4] = 0.9
    assert draw_hog(hog, 9, reduce="mean").max() == round(255 * 0.3)
    assert draw_hog(hog, 9, reduce="max").max() == round(255 * 0.9)
    assert draw_hog(hog, 9, reduce="max", color=(100, 0, 50)).reshape(-1, 3).max(0).tolist() == [
        90,
        0,
        45,
    ]
    assert not draw_hog(-hog, 9).any()


@pytest.mark.parametrize(
    ("hog", "kwargs", "message"),
    [
        (np.zeros((9, 4)), {}, "nbins, rows, cols"),
        (np.zeros((9, 4, 4)), dict(cell_pixels=1), "cell_pixels"),
        (np.zeros((9, 4, 4)), dict(reduce="sum"), "reduce='sum'"),
        (np.zeros((9, 4, 4)), dict(max_value=0), "max_value"),
    ],
)
def test_bad_drawings_are_refused(hog, kwargs, message):
    with pytest.raises(ValueError, match=message):
        draw_hog(hog, **kwargs)


@settings(max_examples=20, deadline=None)
@given(
    cells=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    nbins=st.sampled_from([4, 9]),
    seed=st.integers(0, 2**16),
)
def test_true_features_assemble_to_the_true_hog(cells, grid, nbins, seed):
    steps, rows, cols = grid
    u, v = cells
    rng = torch.Generator().manual_seed(seed)
    clip = torch.randn(1, 3, 2 * steps, rows * u * 4, cols * v * 4, generator=rng)
    mask = torch.rand(1, *grid, generator=rng) < 0.5
    generator = MODELS.build(dict(type="maskfeat.HOGGenerator", nbins=nbins, cell_size=4))
    whole = generator.hog(clip[0, :, ::2].transpose(0, 1))  # (T', C, nbins, rows * u, cols * v)
    tokens = whole.unflatten(4, (cols, v)).unflatten(3, (rows, u))  # (T', C, nbins, rows, u, cols, v)
    features = tokens.permute(0, 3, 5, 1, 2, 4, 6)[mask[0]].flatten(1)  # (M, D)
    # The order of D is the generator's. A pixel whose orientation is on the edge of a bin, as at the border of the
    # image, may get into the other bin with another vector length, so some values differ.
    close = torch.isclose(generator(clip, mask), features, atol=1e-5)
    assert not close.numel() or close.float().mean() > 0.75
    arguments = dict(nbins=nbins, cells=cells)

    grid_of_masked = assemble_hog(features, mask[0], **arguments)
    cell_mask = mask[0].repeat_interleave(u, 1).repeat_interleave(v, 2)[:, None, None]
    np.testing.assert_allclose(grid_of_masked, whole * cell_mask, atol=1e-6)
    visible = whole * ~cell_mask
    np.testing.assert_allclose(assemble_hog(features, mask[0], **arguments, base=visible), whole, atol=1e-6)
    assert not visible[cell_mask.expand_as(visible)].any()  # base is not changed


def test_unflatten_has_the_order_channel_bin_row_column():
    features = torch.arange(2 * 3 * 9 * 2 * 2).view(2, -1)
    hog = unflatten_hog(features, nbins=9, cells=(2, 2))
    assert hog.shape == (2, 3, 9, 2, 2)
    assert hog[1, 2, 5, 1, 0] == 108 + 2 * 36 + 5 * 4 + 1 * 2


def test_misfits_are_named():
    with pytest.raises(ValueError, match="nbins and cell_size"):
        unflatten_hog(torch.zeros(2, 108), nbins=8, cells=(2, 2))
    mask = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="sets 4 tokens, but there are 2"):
        assemble_hog(torch.zeros(2, 108), mask, nbins=9, cells=(2, 2))
    with pytest.raises(ValueError, match="base"):
        assemble_hog(torch.zeros(4, 108), mask, nbins=9, cells=(2, 2), base=np.zeros((1, 3, 9, 2, 4)))
    with pytest.raises(ValueError, match="mask must be"):
        assemble_hog(torch.zeros(4, 108), torch.ones(4), nbins=9, cells=(2, 2))
