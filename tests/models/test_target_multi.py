"""Several targets at once: each as it would be alone, its own projection and its own loss."""

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
    with pytest.raises(ValueError, match=r"targets\.token tells 32 classes apart, neck\.necks\.token\.out_channels=64"):
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
