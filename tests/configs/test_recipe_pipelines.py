"""Data, augmentation and head of the full-size configs: the output of the pipelines agrees with the recipes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from long_variants import long_except
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.structures import DataSample

import maskfeat_plugin  # noqa: F401
from maskfeat_cli.named_configs import named_configs

CONFIGS = Path(__file__).parents[2] / "configs"


def find(pattern):
    return sorted(set(CONFIGS.glob(pattern)) & set(named_configs().values()))


PRETRAIN_IMAGES = find("pretrain/*_vit-*_in1k.py")
PRETRAIN_CLIPS = find("pretrain/*_mvit-*_k400.py")
LINEAR = find("classification/*_linear-*.py")
FINETUNE_IMAGES = sorted(set(find("classification/*_in1k.py")) - set(LINEAR))
FINETUNE_CLIPS = find("recognition/*_k400.py")
OTHER_KINETICS = sorted(find("recognition/*_k600.py") + find("recognition/*_k700.py"))
SSV2 = find("recognition/*_sthv2.py")
VIEWS = {224: (10, 1), 312: (4, 3), 352: (4, 3)}


def stem(path):
    return path.stem.split("-amp")[0]


def transforms(cfg, dataloader="train_dataloader"):
    return {t.type: t for t in cfg[dataloader].dataset.pipeline}


def batch_of(cfg, use_data, dataloader="train_dataloader", batch_size=2):
    loader = cfg[dataloader]
    use_data(loader.dataset)
    loader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, pin_memory=False)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        set_random_seed(0)
        return next(iter(Runner.build_dataloader(loader, seed=0)))


@pytest.mark.parametrize("path", PRETRAIN_IMAGES, ids=stem)
def test_pretraining_images(path, use_data):
    cfg = Config.fromfile(path)
    crop = transforms(cfg)["RandomResizedCrop"]
    assert (crop.crop_ratio_range, crop.backend, crop.interpolation) == ((0.5, 1.0), "pillow", "bicubic")
    assert transforms(cfg)["RandomFlip"].prob == 0.5
    batch = batch_of(cfg, use_data)
    assert [tuple(x.shape) for x in batch["inputs"]] == [(3, 224, 224)] * 2
    for sample in batch["data_samples"]:
        assert sample.mask.shape == (14, 14) and int(sample.mask.sum()) == round(0.4 * 14 * 14)


@pytest.mark.parametrize("path", PRETRAIN_CLIPS, ids=stem)
def test_pretraining_clips(path, use_data):
    cfg = Config.fromfile(path)
    pipeline = transforms(cfg)
    crop = pipeline["maskfeat.RandomResizedCropFlip"]
    assert (crop.area_range, crop.flip_ratio) == ((0.5, 1.0), 0.5)
    assert (pipeline["SampleFrames"].clip_len, pipeline["SampleFrames"].frame_interval) == (16, 4)
    assert pipeline["SampleFrames"].target_fps == 30
    assert pipeline["maskfeat.DecodeClip"].short_side == 256
    batch = batch_of(cfg, use_data)
    assert [tuple(x.shape) for x in batch["inputs"]] == [(1, 3, 16, 224, 224)] * 2
    for sample in batch["data_samples"]:
        mask = np.asarray(sample.mask)
        assert mask.shape == (8, 14, 14)
        windows = mask.reshape(8, 7, 2, 7, 2)  # drawn on 8 x 7 x 7
        assert (windows == windows[:, :, :1, :, :1]).all()
        assert windows[:, :, 0, :, 0].sum() == round(0.4 * 8 * 7 * 7)


@pytest.mark.parametrize("path", FINETUNE_IMAGES, ids=stem)
def test_finetuning_images(path, use_data):
    cfg = Config.fromfile(path)
    pipeline = transforms(cfg)
    assert pipeline["RandomResizedCrop"].crop_ratio_range == (0.08, 1.0)
    augment = pipeline["RandAugment"]
    assert (augment.num_policies, augment.magnitude_level, augment.total_level) == (2, 9, 10)
    assert augment.magnitude_std == 0.5
    assert pipeline["RandomErasing"].erase_prob == 0.25
    batch = batch_of(cfg, use_data)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build({**cfg.model, "backbone": dict(type="VisionTransformer", arch="deit-t")})
    mixed = model.data_preprocessor(batch, training=True)
    assert mixed["inputs"].shape == (2, 3, 224, 224)
    scores = torch.stack([sample.gt_score for sample in mixed["data_samples"]])
    torch.testing.assert_close(scores.sum(1), torch.ones(2))
    assert [a.alpha for a in model.data_preprocessor.batch_augments.augments] == [0.8, 1.0]
    assert model.head.loss_module.label_smooth_val == 0.1


@pytest.mark.parametrize("path", FINETUNE_CLIPS, ids=stem)
def test_finetuning_clips(path, use_data):
    cfg = Config.fromfile(path)
    pipeline = transforms(cfg)
    assert pipeline["RandomResizedCrop"].area_range == (0.08, 1.0)
    augment = pipeline["TransformBroadcaster"].transforms[0]
    assert (augment.num_policies, augment.magnitude_level, augment.total_level) == (2, 7, 10)
    assert augment.magnitude_std == 0.5 and augment.hparams.pad_val == [128] * 3
    assert pipeline["RandomErasing"].erase_prob == 0.25
    batch = batch_of(cfg, use_data)
    # two videos; with MViT-S each of them twice, with different augmentations
    size, frames, _ = clips_of(path)
    copies = 2 if "small" in path.name else 1
    assert [tuple(x.shape) for x in batch["inputs"]] == [(1, 3, frames, size, size)] * 2 * copies
    labels = [int(sample.gt_label) for sample in batch["data_samples"]]
    assert labels == [labels[0]] * copies + [labels[-1]] * copies and labels[0] != labels[-1]
    assert not torch.equal(batch["inputs"][0], batch["inputs"][1])
    blending = cfg.model.data_preprocessor.blending
    assert [(a.type, a.alpha) for a in blending.augments] == [("MixupBlending", 0.8), ("CutmixBlending", 1.0)]
    assert cfg.model.cls_head.label_smooth_eps == 0.1


@pytest.mark.parametrize("path", FINETUNE_CLIPS, ids=stem)
def test_one_draw_of_randaugment_for_all_frames(path, use_data):
    """A clip of one repeated frame stays one after the augmentation, and changes in most draws."""
    cfg = Config.fromfile(path)
    wrapper = transforms(cfg)["TransformBroadcaster"]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        augment = TRANSFORMS.build(wrapper)
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    changed = 0
    for _ in range(20):
        frames = augment(dict(imgs=[frame.copy() for _ in range(4)]))["imgs"]
        assert all((f == frames[0]).all() for f in frames)
        changed += bool((frames[0] != frame).any())
    assert changed > 5


@pytest.mark.parametrize("path", FINETUNE_CLIPS, ids=stem)
def test_views_for_testing(path, use_data):
    """10 clips x 1 crop at 224 pixels, 4 clips x 3 crops above."""
    cfg = Config.fromfile(path)
    size, frames, interval = clips_of(path)
    sampling = transforms(cfg, "test_dataloader")["SampleFrames"]
    clips, crops = VIEWS[size]
    assert (sampling.clip_len, sampling.frame_interval, sampling.num_clips) == (frames, interval, clips)
    batch = batch_of(cfg, use_data, "test_dataloader", batch_size=1)
    assert tuple(batch["inputs"][0].shape) == (clips * crops, 3, frames, size, size)
    assert cfg.model.cls_head.average_clips == "prob"
    # one crop is cut from a larger frame; three crops together cover the frame
    for loader, crops_of_loader in (("val_dataloader", 1), ("test_dataloader", crops)):
        side = transforms(cfg, loader)["maskfeat.DecodeClip"].short_side
        assert side == size if crops_of_loader == 3 else side == round(size * 256 / 224)


def clips_of(path):
    """Return pixels, frames and their interval from the name of a config."""
    size, frames, interval = re.search(r"mvit-(?:small|large)-(?:(\d{3})-)?(\d+)x(\d)_", path.name).groups()
    return int(size or 224), int(frames), int(interval)


@pytest.mark.parametrize("path", FINETUNE_CLIPS, ids=stem)
def test_the_model_is_of_the_clips_size(path):
    size, frames, _ = clips_of(path)
    backbone = Config.fromfile(path).model.backbone
    assert (backbone.spatial_size, backbone.temporal_size) == (size, frames)
    assert backbone.arch in path.name
    assert backbone.get("with_cp", False) == (size > 224)


@pytest.mark.parametrize("path", OTHER_KINETICS, ids=lambda p: p.stem)
def test_other_kinetics_differ_by_data_and_classes_alone(path):
    number = int(path.stem[-3:])
    cfg, k400 = (Config.fromfile(p) for p in (path, path.with_name(path.name.replace(f"_k{number}", "_k400"))))
    assert cfg.model.cls_head.num_classes == number
    assert [a.num_classes for a in cfg.model.data_preprocessor.blending.augments] == [number] * 2
    for key in ("train", "val", "test"):
        mine, theirs = (c[f"{key}_dataloader"] for c in (cfg, k400))
        assert mine.dataset.data_root == f"data/kinetics{number}" and f"kinetics{number}_" in mine.dataset.ann_file
        assert mine.dataset.pipeline == theirs.dataset.pipeline and mine.batch_size == theirs.batch_size
    assert cfg.optim_wrapper == k400.optim_wrapper and cfg.param_scheduler == k400.param_scheduler
    assert cfg.model.backbone == k400.model.backbone


@pytest.mark.parametrize("path", SSV2, ids=stem)
def test_something_something(path, use_data):
    """Frames are from all over the video, testing has three crops, and nothing flips."""
    cfg = Config.fromfile(path)
    frames, size = (40, 312) if "312" in path.name else (16, 224)
    for loader, views in (("train_dataloader", 1), ("test_dataloader", 3)):
        pipeline = transforms(cfg, loader)
        assert pipeline["UniformSample"].clip_len == frames
        assert "flip" not in str(cfg[loader].dataset.pipeline).lower()
        batch = batch_of(cfg, use_data, loader, batch_size=1)
        assert tuple(batch["inputs"][0].shape) == (views, 3, frames, size, size)
    assert cfg.model.cls_head.num_classes == 174
    blending = cfg.model.data_preprocessor.blending
    assert ([a.num_classes for a in blending.augments] == [174] * 2) if "small" in path.name else blending is None
    assert "_k400" in cfg.model.backbone.init_cfg.checkpoint


def test_randaugment_never_mirrors():
    """No operation of the whole list turns a picture of an arrow into its mirror image."""
    cfg = Config.fromfile(SSV2[0])
    wrapper = transforms(cfg)["TransformBroadcaster"]
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        augment = TRANSFORMS.build(wrapper)
    policies = [policy["type"] for policy in augment.transforms.transforms[0].policies]
    assert len(policies) > 10 and not [name for name in policies if "flip" in name.lower()]


@pytest.mark.parametrize("path", long_except(LINEAR, 0), ids=lambda p: p.stem)
def test_linear_probing_trains_the_classifier_alone(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.pop("init_cfg")
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, {**cfg.optim_wrapper, "type": "OptimWrapper"})
    model.train()
    assert not [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    before = {name: p.clone() for name, p in model.backbone.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 224, 224, generator=generator)
    samples = [DataSample().set_gt_label(i % 2) for i in range(4)]
    losses = []
    for _ in range(6):
        loss = model.loss(images, samples)["loss"]
        optimizer.update_params(loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, before[name]) for name, p in model.backbone.state_dict().items())


@pytest.mark.parametrize("path", FINETUNE_IMAGES, ids=stem)
def test_one_view_for_testing(path, use_data):
    batch = batch_of(Config.fromfile(path), use_data, "test_dataloader", batch_size=1)
    assert tuple(batch["inputs"][0].shape) == (3, 224, 224)


@pytest.mark.parametrize("path", FINETUNE_IMAGES + FINETUNE_CLIPS, ids=stem)
def test_head_of_tiny_weights(path):
    """The weights are the usual ones of 0.02 times 0.001, so that the first logits are nearly equal."""
    cfg = Config.fromfile(path)
    head = cfg.model.get("head") or cfg.model.cls_head
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        set_random_seed(0)
        head = MODELS.build(head)
    head.init_weights()
    layer = head.fc if hasattr(head, "fc") else head.fc_cls
    assert 1.5e-5 < layer.weight.std().item() < 2.5e-5
    assert layer.bias.abs().max().item() < 1e-4
    backbone = cfg.model.backbone
    assert backbone.out_type == "avg_featmap"
    assert backbone.init_cfg.type == "maskfeat.Pretrained"
