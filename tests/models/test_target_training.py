"""All targets can be learned, from images and clips, and no step is much slower than a step with HOG."""

import copy
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample

from maskfeat_plugin.registry import MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
REGRESSION = dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss"))
CLASSIFICATION = dict(type="maskfeat.ClassificationHead")
VIT = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
RESNET = dict(type="ResNet", depth=18, base_channels=8)
BACKBONES = dict(
    image=dict(
        type="maskfeat.MaskedViT",
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        img_size=32,
        patch_size=8,
    ),
    clip=dict(
        type="maskfeat.MaskedMViT",
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
        temporal_size=4,
        spatial_size=32,
        patch_cfg=dict(kernel_size=(3, 9, 9), stride=(2, 8, 8), padding=(1, 4, 4)),
        adaptive_kv_stride=(1, 1, 1),
    ),
)
SHAPE = dict(image=(4, 3, 32, 32), clip=(4, 3, 4, 32, 32))
GRID = dict(image=(1, 4, 4), clip=(2, 4, 4))


def neck(channels):
    return dict(type="maskfeat.RegressionNeck", in_channels=32, out_channels=channels)


def kind_of_loss(kind):
    return dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind=kind))


HOG = dict(type="maskfeat.HOGGenerator", cell_size=4)
PIXEL = dict(type="maskfeat.PixelGenerator")
# Settings of ``model.target_generator``, ``model.neck`` and ``model.head`` for each target.
TARGETS = dict(
    hog=(HOG, neck(108), REGRESSION),
    hog_l1=(HOG, neck(108), kind_of_loss("l1")),
    hog_signed_opponent=(dict(HOG, signed=True, color_space="opponent"), neck(108), kind_of_loss("smooth_l1")),
    hog_blocks=(dict(HOG, norm="l2-hys", block_size=2, color_space="gray"), neck(144), REGRESSION),
    pixel=(PIXEL, neck(192), REGRESSION),
    pixel_plain=(dict(PIXEL, norm=False), neck(192), kind_of_loss("cosine")),
    token=(
        dict(
            type="maskfeat.TokenGenerator",
            tokenizer=dict(
                type="mmpretrain.VQKD",
                encoder_config=dict(arch=VIT, img_size=64, out_type="featmap", use_shared_rel_pos_bias=False),
                num_embed=8,  # means of the first batch, because random codes may all be far from the features
                embed_dims=8,
            ),
            vocab_size=8,
            stride=16,
        ),
        neck(8),
        CLASSIFICATION,
    ),
    pseudo_label=(
        dict(
            type="maskfeat.PseudoLabelGenerator",
            classifier=dict(
                type="mmpretrain.ImageClassifier",
                backbone=RESNET,
                head=dict(type="LinearClsHead", num_classes=10, in_channels=64, init_cfg=dict(type="Normal", std=1.0)),
            ),
            num_classes=10,
        ),
        neck(10),
        CLASSIFICATION,
    ),
    label_map=(dict(type="maskfeat.LabelMapGenerator", num_classes=10), neck(10), CLASSIFICATION),
    teacher=(
        dict(
            type="maskfeat.TeacherGenerator",
            teacher=dict(type="mmpretrain.VisionTransformer", arch=VIT, img_size=32, patch_size=8, out_type="featmap"),
        ),
        neck(16),
        kind_of_loss("cosine"),
    ),
    self_teacher=(
        dict(type="maskfeat.SelfTeacherGenerator", num_layers=2),
        neck(32),
        kind_of_loss("smooth_l1"),
    ),
    pixel_hog=(
        dict(type="maskfeat.MultiTargetGenerator", targets=dict(pixel=PIXEL, hog=HOG)),
        dict(type="maskfeat.MultiTargetNeck", necks=dict(pixel=neck(192), hog=neck(108))),
        dict(type="maskfeat.MultiTargetHead", heads=dict(pixel=REGRESSION, hog=REGRESSION)),
    ),
)


def build(kind, name, backbone=None):
    target_generator, neck, head = copy.deepcopy(TARGETS[name])
    if backbone is not None:
        backbone = copy.deepcopy(backbone)
        channels = backbone.arch.embed_dims
        for part in neck.get("necks", dict(one=neck)).values():
            part.update(in_channels=channels)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=backbone or dict(BACKBONES[kind]),
            target_generator=target_generator,
            neck=neck,
            head=head,
        )
    )
    model.init_weights()
    return model


def batch(kind, size=None, grid=None):
    size, grid = size or SHAPE[kind], grid or GRID[kind]
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(size[0], *grid, generator=generator) < 0.4
    scores = torch.rand(size[0], 3, *grid, generator=generator)
    classes = torch.randint(0, 10, scores.shape, generator=generator).float()
    samples = [DataSample(label_map=torch.stack(pair)) for pair in zip(scores, classes, strict=True)]
    return dict(inputs=torch.randn(size, generator=generator), mask=mask, data_samples=samples)


def total(log, what):
    return sum(float(value) for name, value in log.items() if name == what or name.startswith(f"{what}_"))


@pytest.mark.parametrize("kind", ["image", "clip"])
@pytest.mark.parametrize("name", TARGETS)
def test_training_goes_below_the_constant_prediction(kind, name):
    model = build(kind, name)
    model.train()
    data = batch(kind)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    log = []
    for _ in range(50):
        losses = model(**data, mode="loss")
        loss, log_vars = model.parse_losses(losses)
        optim.update_params(loss)
        log.append({key: value.item() for key, value in log_vars.items()})
    baseline = total(log[-1], "baseline")
    if name != "self_teacher":  # its target changes; the other targets depend only on the data
        assert total(log[0], "baseline") == pytest.approx(baseline, rel=1e-5)
    # no prediction can have a loss below the entropy of a distribution
    floor = 0.0
    if name in ("pseudo_label", "label_map"):
        target = model.target_generator(**data)
        floor = -(target * target.clamp_min(1e-12).log()).sum(-1).mean().item()
    assert log[-1]["loss"] - floor < 0.8 * (baseline - floor)
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_no_target_is_much_slower_than_hog(kind):
    """Compare steps of the demo's models, without the time of the target generators' own networks.

    It takes the least processor time of some steps of each model, in turn, so that other programs matter little.
    """
    names = [name for name in TARGETS if "token" not in name and "teacher" not in name and name != "pseudo_label"]
    size, grid = ((3, 40, 40), (1, 5, 5)) if kind == "image" else ((3, 8, 32, 32), (4, 4, 4))
    data = batch(kind, size=(16, *size), grid=grid)
    arch = "vit" if kind == "image" else "mvit"
    backbone = Config.fromfile(CONFIGS / f"demo/maskfeat_{arch}-tiny_moving-digits.py").model.backbone
    models = {name: build(kind, name, backbone) for name in names}
    optims = {name: OptimWrapper(torch.optim.AdamW(model.parameters())) for name, model in models.items()}
    fastest = dict.fromkeys(names, float("inf"))
    for _ in range(6):
        for name, model in models.items():
            start = time.process_time()
            optims[name].update_params(model.parse_losses(model(**data, mode="loss"))[0])
            fastest[name] = min(fastest[name], time.process_time() - start)
    slow = {name: round(t / fastest["hog"], 2) for name, t in fastest.items() if t > 1.3 * fastest["hog"]}
    assert not slow, slow
