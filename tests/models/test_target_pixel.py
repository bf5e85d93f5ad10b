"""PixelGenerator: equal to MAE's pixels, local to the mask, reads every second frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.registry import MODELS


def build(**kwargs):
    return MODELS.build(dict(type="maskfeat.PixelGenerator", **kwargs))


@pytest.mark.parametrize("norm", [True, False])
def test_equals_mmpretrain(norm):
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 3 + 1
    square = images[..., :32]  # MAE's head supports only square images
    peer = MODELS.build(
        dict(
            type="mmpretrain.MAEPretrainHead",
            loss=dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2"),
            norm_pix=norm,
            patch_size=8,
        )
    )
    theirs = peer.construct_target(square).view(2, 16, 8, 8, 3).permute(0, 1, 4, 2, 3).flatten(2)
    torch.testing.assert_close(build(norm=norm, patch_size=8)(square), theirs)


@settings(max_examples=25, deadline=None)
@given(
    norm=st.booleans(),
    clip=st.booleans(),
    side=st.sampled_from([(2, 2), (4, 4), (8, 4)]),
    stride=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_those_cut_out_by_hand(norm, clip, side, stride, seed):
    generator = torch.Generator().manual_seed(seed)
    steps, rows, cols = (2 if clip else 1), 2, 3
    size = (rows * side[0], cols * side[1])
    inputs = torch.randn((2, 3, steps * stride, *size) if clip else (2, 3, *size), generator=generator)
    mask = torch.rand(2, steps, rows, cols, generator=generator) < 0.5
    expected = []
    for n, t, r, c in mask.nonzero().tolist():
        frame = inputs[n, :, t * stride] if clip else inputs[n]
        token = frame[:, r * side[0] : (r + 1) * side[0], c * side[1] : (c + 1) * side[1]].flatten()
        expected.append((token - token.mean()) / (token.var() + 1e-6).sqrt() if norm else token)
    found = build(norm=norm)(inputs, mask)
    assert found.shape == (int(mask.sum()), 3 * side[0] * side[1])
    if expected:
        torch.testing.assert_close(found, torch.stack(expected))


def test_clip_uses_every_second_frame():
    clips = torch.randn(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    pixels = build(patch_size=8)
    other = clips.clone()
    other[:, :, 1::2] = 0
    assert torch.equal(pixels(other), pixels(clips))
    other[:, :, 2] = 0
    assert not torch.equal(pixels(other), pixels(clips))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_flat_tokens_are_zero_and_float32(dtype):
    out = build(patch_size=8)(torch.full((1, 3, 16, 16), 2.0, dtype=dtype, requires_grad=True))
    assert out.dtype == torch.float32 and not out.requires_grad
    assert torch.equal(out, torch.zeros_like(out))


def test_bad_grid_is_named():
    with pytest.raises(ValueError, match="token grid"):
        build()(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 3, 2, dtype=torch.bool))
