"""Parts of mmpretrain's MaskFeat in this package's, and the reverse: equal numbers, or one error with the remedy."""

from pathlib import Path

import pytest
import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmpretrain.structures import DataSample

from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS, TRANSFORMS

CONFIGS = Path(__file__).parents[2] / "configs"
VIT = dict(
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), img_size=112, patch_size=8
)  # 14 x 14 tokens, the only grid of mmpretrain.HOGGenerator
L2 = dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2")
THEIRS = dict(
    type="mmpretrain.MaskFeat",
    data_preprocessor=dict(type="mmpretrain.SelfSupDataPreprocessor", mean=[120.0] * 3, std=[60.0] * 3),
    backbone=dict(type="mmpretrain.MaskFeatViT", **VIT),
    target_generator=dict(type="mmpretrain.HOGGenerator", pool=4),
    neck=dict(type="mmpretrain.LinearNeck", in_channels=16, out_channels=108, norm_cfg=None),
    head=dict(type="mmpretrain.MIMHead", loss=L2),
)
OURS = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=120.0, std=60.0),
    backbone=dict(type="maskfeat.MaskedViT", **VIT),
    target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4, gaussian_window=16),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)


def batch(generator=None):
    torch.manual_seed(1)
    generator = TRANSFORMS.build(
        generator or dict(type="maskfeat.RandomMaskGenerator", token_grid=(14, 14), mask_ratio=0.4, seed=0)
    )
    samples = [DataSample(mask=torch.as_tensor(generator(dict(sample_idx=i))["mask"])) for i in range(2)]
    return dict(inputs=torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8), data_samples=samples)


def build(**parts):
    torch.manual_seed(0)
    return MODELS.build({**OURS, **parts})


def step(cfg, state=None, data=None):
    """Compute the loss of a batch and its gradients by the parameters' names."""
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    if state is None:
        torch.manual_seed(2)
        state = {name: torch.randn_like(value) * 0.2 for name, value in model.named_parameters()}
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    model.eval()
    loss = model(**model.data_preprocessor(data or batch(), True), mode="loss")["loss"]
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in model.named_parameters()}, state


@pytest.mark.parametrize(
    "host, parts",
    [
        (THEIRS, ["backbone"]),
        (THEIRS, ["neck"]),
        (THEIRS, ["head"]),
        (THEIRS, ["target_generator"]),
        (THEIRS, ["backbone", "neck", "head", "target_generator"]),
        (OURS, []),
        (OURS, ["target_generator"]),
        (OURS, ["neck"]),
        (OURS, ["head"]),
        (OURS, ["data_preprocessor"]),
        (OURS, ["target_generator", "neck", "head", "data_preprocessor"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else value["type"].partition(".")[0],
)
def test_mixtures_have_the_numbers_of_mmpretrains_maskfeat(host, parts):
    guest = OURS if host is THEIRS else THEIRS
    generator = dict(OURS["target_generator"], patch_size=8)
    cfg = {**host, **{key: generator if guest[key] is OURS["target_generator"] else guest[key] for key in parts}}
    expected, grads, state = step(THEIRS)
    found, found_grads, _ = step(cfg, state)
    torch.testing.assert_close(found, expected)
    assert found_grads.keys() == grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(found_grads[name], grad, atol=1e-6, rtol=1e-4, msg=name)


def test_mim_vit_is_a_backbone_of_both():
    expected, grads, state = step(THEIRS)
    for host in (THEIRS, OURS):
        found, found_grads, _ = step({**host, "backbone": dict(type="maskfeat.MIMViT", **VIT)}, state)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(found_grads["backbone.mask_token"], grads["backbone.mask_token"])


@pytest.mark.parametrize(
    "generator",
    [
        dict(type="mmpretrain.SimMIMMaskGenerator", input_size=112, mask_patch_size=16, model_patch_size=8),
        dict(type="mmpretrain.BEiTMaskGenerator", input_size=14, num_masking_patches=70, min_num_patches=4),
        dict(type="maskfeat.BlockMaskGenerator", token_grid=(14, 14), mask_ratio=0.4),
    ],
    ids=lambda value: value["type"],
)
def test_mask_generators_of_both(generator):
    data = batch(generator)
    expected, _, state = step(THEIRS, data=data)
    torch.testing.assert_close(step(OURS, state, data)[0], expected)


def test_their_hog_of_clips_is_that_of_the_first_frames():
    ours, theirs = (build(target_generator=cfg["target_generator"]).target_generator for cfg in (OURS, THEIRS))
    clips = torch.randn(2, 3, 4, 112, 112)
    mask = torch.rand(2, 2, 14, 14) < 0.3
    torch.testing.assert_close(theirs(clips, mask), ours(clips, mask))


def test_their_hog_is_one_of_several_targets():
    names = {
        "target_generator": dict(type="maskfeat.MultiTargetGenerator", targets=dict(a=THEIRS["target_generator"])),
        "neck": dict(type="maskfeat.MultiTargetNeck", necks=dict(a=THEIRS["neck"])),
        "head": dict(type="maskfeat.MultiTargetHead", heads=dict(a=OURS["head"])),
    }
    model = build(**names).eval()
    losses = model(**model.data_preprocessor(batch(), True), mode="loss")
    assert losses["loss_a"] > 0 and losses["baseline_a"] > 0


@pytest.mark.parametrize(
    "parts, message",
    [
        (
            dict(target_generator=dict(type="mmpretrain.HOGGenerator", gaussian_window=32)),
            "WholeGridGenerator: .*h 112",
        ),
        (
            dict(target_generator=dict(type="mmpretrain.HOGGenerator", pool=16)),
            r"WholeGridGenerator: mmpretrain.HOGGenerator does not fit .* Use maskfeat.HOGGenerator",
        ),
        (
            dict(neck=dict(type="mmpretrain.SimMIMLinearDecoder", in_channels=16, encoder_stride=8)),
            "neck: .*LinearNeck",
        ),
        (dict(neck=dict(type="mmpretrain.NonLinearNeck", in_channels=16, hid_channels=8, out_channels=8)), "neck: "),
        (dict(head=dict(type="mmpretrain.SimMIMHead", patch_size=8, loss=L2)), "head: .* mmpretrain.MIMHead"),
        (dict(head=dict(type="mmpretrain.MAEPretrainHead", loss=L2)), "head: .* maskfeat.RegressionHead"),
    ],
)
def test_parts_that_do_not_fit_are_named(parts, message):
    model = build(**parts)
    with pytest.raises(ValueError, match=message):
        model(**model.data_preprocessor(batch(), True), mode="loss")


@pytest.mark.parametrize(
    "backbone",
    [
        dict(type="maskfeat.MaskedViT", with_cls_token=False, out_type="featmap", **VIT),
        dict(type="maskfeat.VisibleViT", **VIT),
        dict(
            type="maskfeat.MaskableBackbone",
            mask_stride=8,
            backbone=dict(type="mmpretrain.MaskFeatViT", **VIT),
        ),
    ],
    ids=lambda value: value["type"],
)
def test_backbones_that_do_not_fit_theirs_are_named(backbone):
    model = MODELS.build({**THEIRS, "backbone": backbone})
    with pytest.raises(ValueError, match="In mmpretrain.MaskFeat use maskfeat.MaskedViT with its class token"):
        model(**model.data_preprocessor(batch(), True), mode="loss")


def test_data_preprocessor_of_mmaction():
    """Clips of one view have the shape (1, C, T, H, W) per sample, and their masks stay in the samples."""
    arch = dict(embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[1], dim_mul_indices=[1])
    backbone = dict(type="maskfeat.MaskedMViT", arch=arch, temporal_size=4, spatial_size=32)
    neck, target = dict(OURS["neck"], in_channels=32), dict(type="maskfeat.HOGGenerator", cell_size=4)
    theirs = dict(type="mmaction.ActionDataPreprocessor", mean=[120.0] * 3, std=[60.0] * 3, format_shape="NCTHW")
    masks = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    data = dict(
        inputs=list(torch.randint(0, 256, (2, 1, 3, 4, 32, 32), dtype=torch.uint8)),
        data_samples=[ActionDataSample(mask=mask) for mask in masks],
    )
    losses = []
    for preprocessor in (OURS["data_preprocessor"], theirs):
        model = build(backbone=backbone, neck=neck, target_generator=target, data_preprocessor=preprocessor).eval()
        losses.append(model(**model.data_preprocessor(data, True), mode="loss")["loss"])
    torch.testing.assert_close(*losses)


def test_lists_of_inputs_are_refused():
    model = build(data_preprocessor=THEIRS["data_preprocessor"])
    data = batch()
    data["inputs"] = list(data["inputs"])
    with pytest.raises(ValueError, match="SelfSupDataPreprocessor.*collate_fn=dict"):
        model(**model.data_preprocessor(data, True), mode="loss")


def test_our_data_preprocessor_in_theirs_is_refused_before_training(digits, monkeypatch):
    monkeypatch.chdir(digits)
    cfg = Config.fromfile(CONFIGS / "mixing" / "mmpretrain-maskfeat_vit-tiny_moving-digits.py")
    check_config(cfg, ["train_dataloader"])
    cfg.model.data_preprocessor = dict(type="maskfeat.MaskFeatDataPreprocessor")
    with pytest.raises(ConfigError, match="model.data_preprocessor: .*mmpretrain.SelfSupDataPreprocessor"):
        check_config(cfg, ["train_dataloader"])
