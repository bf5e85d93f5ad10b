"""Data, augmentation and head of the full-size configs: what the recipes say, seen on what the pipelines give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import Runner, set_random_seed

import maskfeat_plugin  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"
PRETRAIN_IMAGES = sorted(CONFIGS.glob("pretrain/*_vit-*.py"))
PRETRAIN_CLIPS = sorted(CONFIGS.glob("pretrain/*_mvit-*.py"))
FINETUNE_IMAGES = sorted(CONFIGS.glob("classification/*.py"))
FINETUNE_CLIPS = sorted(CONFIGS.glob("recognition/*.py"))


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
    assert transforms(cfg)["RandomResizedCrop"].crop_ratio_range == (0.5, 1.0)
    assert transforms(cfg)["RandomFlip"].prob == 0.5
    batch = batch_of(cfg, use_data)
    assert [tuple(x.shape) for x in batch["inputs"]] == [(3, 224, 224)] * 2
    for sample in batch["data_samples"]:
        assert sample.mask.shape == (14, 14) and int(sample.mask.sum()) == round(0.4 * 14 * 14)


@pytest.mark.parametrize("path", PRETRAIN_CLIPS, ids=stem)
def test_pretraining_clips(path, use_data):
    cfg = Config.fromfile(path)
    pipeline = transforms(cfg)
    assert pipeline["RandomResizedCrop"].area_range == (0.5, 1.0)
    assert pipeline["Flip"].flip_ratio == 0.5
    assert (pipeline["SampleFrames"].clip_len, pipeline["SampleFrames"].frame_interval) == (16, 4)
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
    assert (augment.magnitude_level, augment.total_level) == (9, 10)
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
    assert (augment.magnitude_level, augment.total_level) == (7, 10)
    assert pipeline["RandomErasing"].erase_prob == 0.25
    batch = batch_of(cfg, use_data)
    # two videos, each twice, and not twice the same
    assert [tuple(x.shape) for x in batch["inputs"]] == [(1, 3, 16, 224, 224)] * 4
    labels = [int(sample.gt_label) for sample in batch["data_samples"]]
    assert labels[0] == labels[1] != labels[2] == labels[3]
    assert not torch.equal(batch["inputs"][0], batch["inputs"][1])
    blending = cfg.model.data_preprocessor.blending
    assert [(a.type, a.alpha) for a in blending.augments] == [("MixupBlending", 0.8), ("CutmixBlending", 1.0)]
    assert cfg.model.cls_head.label_smooth_eps == 0.1


@pytest.mark.parametrize("path", FINETUNE_CLIPS, ids=stem)
def test_one_draw_of_randaugment_for_all_frames(path, use_data):
    """A clip of one repeated frame still is one after the augmentation, and changed in most draws."""
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
def test_ten_clips_and_one_crop_for_testing(path, use_data):
    cfg = Config.fromfile(path)
    batch = batch_of(cfg, use_data, "test_dataloader", batch_size=1)
    assert tuple(batch["inputs"][0].shape) == (10, 3, 16, 224, 224)
    assert cfg.model.cls_head.average_clips == "prob"


@pytest.mark.parametrize("path", FINETUNE_IMAGES, ids=stem)
def test_one_view_for_testing(path, use_data):
    batch = batch_of(Config.fromfile(path), use_data, "test_dataloader", batch_size=1)
    assert tuple(batch["inputs"][0].shape) == (3, 224, 224)


@pytest.mark.parametrize("path", FINETUNE_IMAGES + FINETUNE_CLIPS, ids=stem)
def test_head_of_tiny_weights(path):
    """Weights of the usual size, 0.02, times 0.001, so that the first logits are all but equal."""
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
