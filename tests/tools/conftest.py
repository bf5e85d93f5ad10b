"""Fixtures: the command lines as functions, and a tiny config with its data."""

import cv2
import numpy as np
import pytest
from tool_modules import load_tool

PRETRAIN = """
custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
default_scope = "mmpretrain"
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", to_rgb=True),
    backbone=dict(
        type="maskfeat.MaskedViT",
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    ),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        data_root="DATA",
        ann_file="train.txt",
        data_prefix="images",
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="CenterCrop", crop_size=32),
            dict(type="maskfeat.BlockMaskGenerator", token_grid=(4, 4), seed=0),
            dict(type="PackInputs"),
        ],
    ),
)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=0.02),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=2,
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=1,
        end=3,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=3)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1))
randomness = dict(seed=0)
"""

FINETUNE = """
_base_ = "pretrain.py"
pipeline = [dict(type="LoadImageFromFile"), dict(type="CenterCrop", crop_size=32), dict(type="PackInputs")]
model = dict(
    _delete_=True,
    type="ImageClassifier",
    data_preprocessor=dict(num_classes=2, mean=[114.75] * 3, std=[57.375] * 3, to_rgb=True),
    backbone=dict(
        type="maskfeat.VisionTransformer",
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        out_type="avg_featmap",
        final_norm=False,
        init_cfg=dict(type="maskfeat.Pretrained", checkpoint="CHECKPOINT"),
    ),
    head=dict(type="LinearClsHead", num_classes=2, in_channels=16),
)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset", data_root="DATA", ann_file="train.txt", data_prefix="images", pipeline=pipeline
    ),
)
test_evaluator = dict(type="Accuracy", topk=(1,))
test_cfg = dict()
optim_wrapper = dict(
    constructor="maskfeat.LayerDecayOptimWrapperConstructor", paramwise_cfg=dict(layer_decay_rate=0.65)
)
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture(scope="session")
def train():
    return load_tool("train").main


@pytest.fixture(scope="session")
def test():
    return load_tool("test").main


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Working directory with six JPEG images and the configs ``pretrain.py`` and ``finetune.py``."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        cv2.imwrite(str(images / f"{i}.jpg"), rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    (tmp_path / "data" / "train.txt").write_text("".join(f"{i}.jpg {i % 2}\n" for i in range(6)))
    (tmp_path / "pretrain.py").write_text(PRETRAIN.replace("DATA", "data"))
    checkpoint = "work_dirs/pretrain/epoch_3.pth"
    (tmp_path / "finetune.py").write_text(FINETUNE.replace("DATA", "data").replace("CHECKPOINT", checkpoint))
    monkeypatch.chdir(tmp_path)
    return tmp_path
