"""Several targets at once: each has the same values, projection and loss as it has alone."""

import pytest
import torch

from maskfeat_plugin.registry import MODELS

VIT = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
TARGETS = dict(
    pixel=dict(type="maskfeat.PixelGenerator"),
    hog=dict(type="maskfeat.HOGGenerator", cell_size=4),
    token=dict(
        type="maskfeat.TokenGenerator",
        tokenizer=dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=32),
        vocab_size=32,
    ),
)
CHANNELS = dict(pixel=192, hog=108, token=32)
HEADS = dict(
    pixel=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=0.5)),
    hog=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
    token=dict(type="maskfeat.ClassificationHead"),
)


def necks(**channels):
    return {name: dict(type="maskfeat.RegressionNeck", in_channels=32, out_channels=c) for name, c in channels.items()}


def build(targets=TARGETS, channels=CHANNELS, heads=HEADS):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8),
            target_generator=dict(type="maskfeat.MultiTargetGenerator", targets=targets),
            neck=dict(type="maskfeat.MultiTargetNeck", necks=necks(**channels)),
            head=dict(type="maskfeat.MultiTargetHead", heads=heads),
        )
    )


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 32, 32, generator=generator), torch.rand(2, 1, 4, 4, generator=generator) < 0.4


def test_each_target_and_loss_is_as_alone():
    model = build()
    model.init_weights()
    inputs, mask = batch()
    losses = model(inputs, mask=mask, mode="loss")
    assert set(losses) == {f"{kind}_{name}" for kind in ("loss", "baseline") for name in TARGETS}
    tokens = model.backbone(inputs, mask)[mask.flatten(1)]
    total = 0
    for name, generator in model.target_generator.targets.items():
        target = generator(inputs, mask)
        head = model.head.heads[name]
        alone = head.loss(model.neck.necks[name](tokens), target)
        torch.testing.assert_close(losses[f"loss_{name}"], alone)
        total = total + alone
    torch.testing.assert_close(model.parse_losses(losses)[0], total)
    plain = MODELS.build(HEADS["hog"]).loss(
        model.neck.necks["pixel"](tokens), model.target_generator.targets["pixel"](inputs, mask)
    )
    torch.testing.assert_close(losses["loss_pixel"], 0.5 * plain)


def test_necks_are_initialized_and_all_learn():
    model = build()
    model.init_weights()
    for neck in model.neck.necks.values():
        assert neck.fc.bias.abs().max() == 0 and 0.015 < neck.fc.weight.std() < 0.025
    inputs, mask = batch()
    model.parse_losses(model(inputs, mask=mask, mode="loss"))[0].backward()
    for name, neck in model.neck.necks.items():
        assert neck.fc.weight.grad.abs().max() > 0, name


def test_predict_gives_each_sample_its_tokens_by_name():
    model = build().eval()
    model.init_weights()
    inputs, mask = batch()
    for i, sample in enumerate(model(inputs, mask=mask, mode="predict")):
        masked = int(mask[i].sum())
        assert {name: tuple(v.shape) for name, v in sample.pred_features.items()} == {
            name: (masked, channels) for name, channels in CHANNELS.items()
        }
        alone = model(inputs[i : i + 1], mask=mask[i : i + 1], mode="predict")[0]
        assert torch.equal(sample.target_features["hog"], alone.target_features["hog"])
        assert sample.target_features["token"].shape == (masked,)


def test_bad_config_is_named():
    with pytest.raises(ValueError, match=r"`neck\.necks\.token\.out_channels` is 64, .* 'token' has 32 classes"):
        build(channels=dict(CHANNELS, token=64))
    model = build(channels=dict(pixel=192, hog=108))
    inputs, mask = batch()
    with pytest.raises(ValueError, match=r"predictions \['hog', 'pixel'\], targets \['hog', 'pixel',"):
        model(inputs, mask=mask, mode="loss")
    model = build(channels=dict(CHANNELS, hog=100))
    with pytest.raises(ValueError, match="set out_channels=108 of the neck"):
        model(inputs, mask=mask, mode="loss")
    for part, message in (
        (dict(type="maskfeat.MultiTargetGenerator", targets={}), "^targets is empty"),
        (dict(type="maskfeat.MultiTargetNeck", necks={}), "^necks is empty"),
        (dict(type="maskfeat.MultiTargetHead", heads={}), "^heads is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            MODELS.build(part)


L2 = dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2")
MIM_HEAD = dict(type="mmpretrain.MIMHead", loss=L2)


@MODELS.register_module(force=True)
class MinimalHead(torch.nn.Module):
    """A user's head: only one method."""

    def loss(self, pred, target):
        return (pred - target).abs().mean()


@MODELS.register_module(force=True)
class MinimalTarget(torch.nn.Module):
    """A user's target without any class of this package."""

    def forward(self, inputs, mask, data_samples):
        return inputs.new_ones(int(mask.sum()), 192)


@pytest.mark.parametrize(
    "head", [MIM_HEAD, dict(type="maskfeat.MinimalHead"), HEADS["hog"]], ids=["mmpretrain", "user", "ours"]
)
def test_every_head_of_maskfeat_is_one_of_several(head):
    """Each target has its usual loss. A head that cannot compute a baseline logs none."""
    target, neck = dict(hog=TARGETS["hog"]), dict(hog=108)
    several = build(target, neck, dict(hog=head))
    alone = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8),
            target_generator=TARGETS["hog"],
            neck=necks(**neck)["hog"],
            head=head,
        )
    )
    alone.load_state_dict({key.replace("neck.necks.hog", "neck"): v for key, v in several.state_dict().items()})
    inputs, mask = batch()
    losses, expected = several.eval().loss(inputs, mask=mask), alone.eval().loss(inputs, mask=mask)
    assert losses.keys() == {f"{name}_hog" for name in expected}
    assert ("baseline_hog" in losses) == (head is HEADS["hog"])
    for name, value in expected.items():
        torch.testing.assert_close(losses[f"{name}_hog"], value)
    settings = several.predict(inputs, mask=mask)[0].loss_settings
    assert settings == dict(hog=alone.predict(inputs, mask=mask)[0].loss_settings)


def test_a_head_or_neck_of_others_that_does_not_fit_is_named():
    inputs, mask = batch()
    target = dict(hog=TARGETS["hog"])
    simmim = dict(type="mmpretrain.SimMIMHead", patch_size=8, loss=L2)
    with pytest.raises(
        ValueError, match=r"head\.heads\.hog: mmpretrain\.SimMIMHead does not fit .*mmpretrain\.MIMHead"
    ):
        build(target, dict(hog=108), dict(hog=simmim)).loss(inputs, mask=mask)
    model = build(target, dict(hog=108), dict(hog=MIM_HEAD))
    model.neck = MODELS.build(
        dict(
            type="maskfeat.MultiTargetNeck",
            necks=dict(hog=dict(type="mmpretrain.SimMIMLinearDecoder", in_channels=32, encoder_stride=8)),
        )
    )
    with pytest.raises(ValueError, match=r"neck\.necks\.hog: mmpretrain\.SimMIMLinearDecoder .*LinearNeck"):
        model.loss(inputs, mask=mask)


def test_targets_of_others_are_among_several():
    model = build(dict(ones=dict(type="maskfeat.MinimalTarget")), dict(ones=192), dict(ones=HEADS["hog"]))
    inputs, mask = batch()
    assert model.loss(inputs, mask=mask)["baseline_ones"] == 0


@pytest.mark.parametrize(
    "target, has_grid",
    [
        (dict(type="maskfeat.HOGGenerator", cell_size=4, patch_size=8, temporal_stride=1), True),
        (dict(type="maskfeat.PixelGenerator", patch_size=8), True),
        (dict(type="maskfeat.LabelMapGenerator", num_classes=3), False),
        (dict(type="maskfeat.MultiTargetGenerator", targets=dict(hog=TARGETS["hog"])), False),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_token_size_is_known_where_no_mask_is_needed(target, has_grid):
    generator = MODELS.build(target)
    assert all(hasattr(generator, name) == has_grid for name in ("patch_size", "temporal_stride"))
    if has_grid:
        inputs, mask = batch()[0], torch.ones(2, 1, 4, 4, dtype=torch.bool)
        assert torch.equal(generator(inputs).flatten(0, 1), generator(inputs, mask))
        assert generator(inputs).shape[:2] == (2, 16)


def test_a_target_that_needs_a_mask_says_so():
    target = build(dict(theirs=dict(type="mmpretrain.HOGGenerator")), dict(theirs=108), dict(theirs=MIM_HEAD))
    with pytest.raises(
        ValueError, match="WholeGridGenerator has no token grid of its own.* Use it in maskfeat.MaskFeat"
    ):
        target.target_generator(batch()[0])
