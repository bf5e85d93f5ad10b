"""HOGGenerator: equal to other implementations, local to the mask, correct for any input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.models.selfsup.maskfeat import HOGGenerator as PeerHOGGenerator

from maskfeat_plugin.registry import MODELS


def build(**kwargs):
    return MODELS.build(dict(type="maskfeat.HOGGenerator", **kwargs))


@pytest.mark.parametrize(("nbins", "cell_size", "gaussian_window"), [(9, 8, 16), (9, 8, 0), (18, 4, 0)])
def test_equals_mmpretrain_on_its_grid(nbins, cell_size, gaussian_window):
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    peer = PeerHOGGenerator(nbins, cell_size, gaussian_window)(images)
    ours = build(nbins=nbins, cell_size=cell_size, gaussian_window=gaussian_window)(images)
    assert ours.shape == peer.shape == (2, 196, 3 * nbins * (16 // cell_size) ** 2)
    torch.testing.assert_close(ours, peer, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    cells=st.integers(1, 3),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    cell_size=st.sampled_from([2, 4, 5, 8]),
    window=st.sampled_from([0, 6, 16]),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_the_same_tokens_of_the_whole(cells, grid, cell_size, window, seed):
    steps, rows, cols = grid
    side = cells * cell_size
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(2, 3, 2 * steps, rows * side, cols * side, generator=generator)
    mask = torch.rand(2, *grid, generator=generator) < 0.5
    hog = build(cell_size=cell_size, gaussian_window=window, patch_size=side)
    everything = hog(clips)
    assert everything.shape == (2, steps * rows * cols, 27 * cells**2)
    torch.testing.assert_close(hog(clips, mask), everything[mask.flatten(1)], atol=1e-6, rtol=0)


def test_whole_images_and_tokens_hold_the_same_cells():
    images = torch.randn(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    hog = build(cell_size=8)
    cells = hog.hog(images)  # (2, 3, 9, 6, 4)
    tokens = hog(images).view(2, 3, 2, 3, 9, 2, 2)  # N, H', W', C, bins, cell row, cell col
    rebuilt = tokens.permute(0, 3, 4, 1, 5, 2, 6).reshape(2, 3, 9, 6, 4)
    torch.testing.assert_close(rebuilt, cells)


def test_clip_uses_every_second_frame():
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    hog = build()
    expected = hog(clips[:, :, ::2].transpose(1, 2).flatten(0, 1)).flatten(0, 1)
    assert torch.equal(hog(clips)[0], expected)
    other = clips.clone()
    other[:, :, 1::2] = 0
    assert torch.equal(hog(other), hog(clips))


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 120])
def test_a_ramp_votes_for_the_bin_of_its_direction(angle):
    radians = torch.deg2rad(torch.tensor(angle + 1.0))  # one degree off the bins' edges
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramp = (x * radians.sin() + y * radians.cos()).expand(1, 3, 32, 32)
    histogram = build().hog(-ramp)[0, :, :, 1, 1]  # an inner cell, all colours
    expected = torch.zeros(3, 9)
    expected[:, (angle + 1) // 20] = 1
    torch.testing.assert_close(histogram, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, -2.0, 1e3])
def test_constant_images_give_zeros(dtype, value):
    out = build()(torch.full((1, 3, 32, 32), value, dtype=dtype))
    assert out.dtype == torch.float32
    assert torch.equal(out, torch.zeros_like(out))


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 2**16))
def test_histograms_are_unit_vectors_and_ignore_contrast(scale, shift, seed):
    images = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).double()
    hog = build(cell_size=4)
    cells = hog.hog(images)
    torch.testing.assert_close(cells.norm(dim=2), torch.ones(1, 3, 4, 4), atol=1e-5, rtol=0)
    scaled = hog.hog(images * scale + shift)
    torch.testing.assert_close(scaled, cells, atol=5e-2, rtol=0)  # float32 rounding of the shift


def test_no_gradient_reaches_the_inputs():
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    assert not build()(images).requires_grad


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        (dict(nbins=0), "nbins"),
        (dict(cell_size=0), "cell_size"),
        (dict(cell_size=2.5), "cell_size"),
        (dict(gaussian_window=-1), "gaussian_window"),
    ],
)
def test_bad_arguments_are_named(kwargs, key):
    with pytest.raises(ValueError, match=rf"^{key}"):
        build(**kwargs)


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match=r"cell_size=8 does not divide"):
        build().hog(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r"cell_size=8 does not divide .*token"):
        build()(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="token grid"):
        build()(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"patch_size=16"):
        build()(torch.zeros(1, 3, 24, 32))
