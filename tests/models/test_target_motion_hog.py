"""HOG of frame differences: the HOG of each token's own difference, zero where nothing moves, alone and with HOG."""

import pytest
import torch

from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.registry import MODELS

MOTION = dict(type="maskfeat.MotionHOGGenerator", cell_size=4)
HOG = dict(type="maskfeat.HOGGenerator", cell_size=4)
MVIT = dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1], dim_mul_indices=[1])


def clips():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(16, generator=generator)[:6]] = True
    return torch.randn(2, 3, 8, 16, 16, generator=generator), mask.view(2, 4, 2, 2)


@pytest.mark.parametrize("settings", [{}, dict(block_size=2), dict(color_space="gray", signed=True, nbins=8)])
def test_target_is_hog_of_the_difference_within_each_token(settings):
    inputs, mask = clips()
    motion = MODELS.build(dict(MOTION, **settings))
    # one picture per token: the last frame of the token minus its first
    pictures = inputs[:, :, 1::2] - inputs[:, :, 0::2]
    expected = MODELS.build(dict(HOG, **settings))(pictures, mask)
    target = motion(inputs, mask)
    torch.testing.assert_close(target, expected)
    places = masked_places(mask)
    torch.testing.assert_close(motion(inputs, mask, places=places), expected)
    assert not torch.allclose(target, MODELS.build(dict(HOG, **settings))(inputs, mask))


def test_a_constant_added_to_the_clip_changes_nothing():
    inputs, mask = clips()
    motion = MODELS.build(MOTION)
    torch.testing.assert_close(motion(inputs + 3.0, mask), motion(inputs, mask), rtol=1e-3, atol=1e-3)


def test_only_tokens_with_motion_have_a_target():
    inputs = torch.randn(1, 3, 1, 16, 16).repeat(1, 1, 8, 1, 1)
    mask = torch.ones(1, 4, 2, 2, dtype=torch.bool)
    motion = MODELS.build(MOTION)
    still = motion(inputs, mask)
    assert still.isfinite().all() and still.abs().max() == 0
    inputs[:, :, 3, 2:6, 2:6] += 5.0  # the second time step, the first token of its frame
    moved = motion(inputs, mask).view(4, 4, -1).abs().amax(-1) > 0
    assert moved[1, 0] and moved.sum() == 1


@pytest.mark.parametrize(
    ("inputs", "grid"), [(torch.zeros(1, 3, 16, 16), (1, 2, 2)), (torch.zeros(1, 3, 4, 16, 16), (4, 2, 2))]
)
def test_images_and_tokens_of_one_frame_are_refused(inputs, grid):
    with pytest.raises(ValueError, match="needs clips with at least 2 frames per token"):
        MODELS.build(MOTION)(inputs, torch.ones(1, *grid, dtype=torch.bool))


@pytest.mark.parametrize("still", [False, True])
def test_training_on_both_targets(still):
    """The losses and gradients are finite, also for clips in which nothing moves."""
    torch.manual_seed(0)
    neck = dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108)
    head = dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss"))
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedMViT", arch=MVIT),
            target_generator=dict(
                type="maskfeat.MultiTargetGenerator",
                targets=dict(hog=dict(type="maskfeat.HOGGenerator", cell_size=4), motion=MOTION),
            ),
            neck=dict(type="maskfeat.MultiTargetNeck", necks=dict(hog=neck, motion=neck)),
            head=dict(type="maskfeat.MultiTargetHead", heads=dict(hog=head, motion=head)),
        )
    )
    model.init_weights()
    inputs = torch.randn(2, 3, 4, 32, 32)
    if still:
        inputs = inputs[:, :, :1].expand_as(inputs)
    mask = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    losses = model(inputs, mask=mask, masked_index=mask.flatten(1).nonzero()[:, 1].view(2, -1), mode="loss")
    assert (losses["baseline_motion"] == 0) == still
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.neck.parameters())
