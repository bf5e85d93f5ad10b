"""Options of HOGGenerator: equal to scikit-image's HOG for common options, and local to the mask."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import hog as skimage_hog

from maskfeat_plugin.registry import MODELS

SKIMAGE_NORMS = {"l1": "L1", "l2": "L2", "l2-hys": "L2-Hys"}


def build(**kwargs):
    return MODELS.build(dict(type="maskfeat.HOGGenerator", **kwargs))


def noise(*shape, seed=0):
    """Draw values of 0 to 255, so that the constant that scikit-image adds to each norm is relatively small."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 255


def skimage_cells(image, nbins, cell_size, norm, block_size):
    """Compute scikit-image's blocks (rows, cols, b, b, bins) of an image (H, W).

    It measures the angle from the other axis, so the image is transposed.
    """
    blocks = skimage_hog(
        image.T.double().numpy(),
        orientations=nbins,
        pixels_per_cell=(cell_size, cell_size),
        cells_per_block=(block_size, block_size),
        block_norm=SKIMAGE_NORMS[norm],
        feature_vector=False,
    )
    return blocks.transpose(1, 0, 3, 2, 4)


@pytest.mark.parametrize("norm", ["l1", "l2", "l2-hys"])
@pytest.mark.parametrize(("nbins", "cell_size"), [(9, 8), (6, 4)])
def test_cells_equal_scikit_image(nbins, cell_size, norm):
    image = noise(48, 32)
    ours = build(nbins=nbins, cell_size=cell_size, norm=norm, gradient="central").hog(image[None, None])
    theirs = skimage_cells(image, nbins, cell_size, norm, 1)[:, :, 0, 0]  # (rows, cols, bins)
    np.testing.assert_allclose(ours[0, 0].permute(1, 2, 0).numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2", "l2-hys"])
@pytest.mark.parametrize("block_size", [2, 3])
def test_blocks_equal_scikit_image(norm, block_size):
    """Each of its numbers is in our result: block (r, c) at position (i, j) is the cell (r + i, c + j) at (i, j)."""
    image = noise(48, 40, seed=1)
    hog = build(norm=norm, gradient="central", block_size=block_size)
    ours = hog.hog(image[None, None]).view(block_size, block_size, 9, 6, 5).numpy()
    theirs = skimage_cells(image, 9, 8, norm, block_size)
    rows, cols = theirs.shape[:2]
    assert (rows, cols) == (7 - block_size, 6 - block_size)
    for i in range(block_size):
        for j in range(block_size):
            same = ours[i, j, :, i : i + rows, j : j + cols].transpose(1, 2, 0)
            np.testing.assert_allclose(same, theirs[:, :, i, j], atol=1e-5)


def test_without_a_norm_cells_are_sums_of_magnitudes():
    image = noise(1, 1, 16, 24)
    cells = build(norm="none", gradient="central").hog(image)
    rows, cols = np.gradient(np.pad(image[0, 0].double().numpy(), 1, "reflect") * 2)
    magnitude = np.hypot(rows, cols)[1:-1, 1:-1]
    expected = magnitude.reshape(2, 8, 3, 8).sum((1, 3))
    np.testing.assert_allclose(cells.sum(2)[0, 0].numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(torch.nn.functional.normalize(cells, dim=2), build(gradient="central").hog(image))


@pytest.mark.parametrize("gradient", ["sobel", "central"])
def test_signed_bins_folded_are_the_unsigned(gradient):
    images = noise(2, 3, 32, 32)
    signed = build(nbins=18, signed=True, norm="none", gradient=gradient)
    unsigned = build(nbins=9, norm="none", gradient=gradient).hog(images)
    first, second = signed.hog(images).split(9, dim=2)
    torch.testing.assert_close(first + second, unsigned)
    assert (first != second).any()
    inverted = signed.hog(-images)  # dark becomes light, so votes go to the other half of the bins
    torch.testing.assert_close(inverted, torch.cat((second, first), 2))


def test_color_spaces():
    images = noise(2, 3, 32, 32)
    red, green, blue = images.unbind(1)
    gray = build(color_space="gray").hog(images)
    assert gray.shape == (2, 1, 9, 4, 4)
    luma = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
    torch.testing.assert_close(gray, build().hog(luma))
    opponent = build(color_space="opponent", norm="none").hog(images)
    planes = torch.stack((red - green, red + green - 2 * blue, red + green + blue), 1)
    planes /= torch.tensor([2.0, 6.0, 3.0]).sqrt().view(1, 3, 1, 1)
    torch.testing.assert_close(opponent, build(norm="none").hog(planes), rtol=1e-3, atol=0.5)
    without_color = luma.expand(-1, 3, -1, -1)
    cells = build(color_space="opponent", norm="none").hog(without_color)
    assert cells[:, :2].max() < 1e-2 * cells[:, 2].mean()


@settings(max_examples=25, deadline=None)
@given(
    signed=st.booleans(),
    color_space=st.sampled_from(["rgb", "gray", "opponent"]),
    gradient=st.sampled_from(["sobel", "central"]),
    norm=st.sampled_from(["none", "l1", "l2", "l2-hys"]),
    block_size=st.integers(1, 3),
    window=st.sampled_from([0, 6]),
    clip=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_the_same_tokens_of_the_whole(
    signed, color_space, gradient, norm, block_size, window, clip, seed
):
    generator = torch.Generator().manual_seed(seed)
    shape, grid = ((2, 3, 4, 16, 24), (2, 2, 3)) if clip else ((2, 3, 16, 24), (1, 2, 3))
    inputs = torch.randn(shape, generator=generator)
    mask = torch.rand(2, *grid, generator=generator) < 0.5
    hog = build(
        cell_size=4,
        patch_size=8,
        signed=signed,
        color_space=color_space,
        gradient=gradient,
        norm=norm,
        block_size=block_size,
        gaussian_window=window,
    )
    everything = hog(inputs)
    channels = 1 if color_space == "gray" else 3
    assert everything.shape == (2, grid[0] * 6, channels * 9 * block_size**2 * 4)
    torch.testing.assert_close(hog(inputs, mask), everything[mask.flatten(1)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(norm="l3"), r"^norm='l3' is unknown.*'l2-hys'"),
        (dict(color_space="lab"), r"^color_space='lab' is unknown.*'opponent'"),
        (dict(gradient="scharr"), r"^gradient='scharr' is unknown.*'central'"),
        (dict(block_size=0), r"^block_size must be an integer of at least 1"),
    ],
)
def test_bad_options_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_gray_images_of_one_channel_are_named():
    with pytest.raises(ValueError, match="color_space='gray' needs images of 3 channels, but they have 1"):
        build(color_space="gray").hog(torch.zeros(1, 1, 16, 16))
