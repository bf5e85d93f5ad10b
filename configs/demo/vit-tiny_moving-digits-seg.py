"""Segmentation of digits: a tiny ViT learns the class of each pixel of MovingDigits, in mmseg, from few labels.

The model is UPerNet on a simple feature pyramid. It trains from scratch by default. To start from pre-trained weights,
use ``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/demo_vit-tiny.py",
    "../_base_/schedules/demo_finetune.py",
    "../_base_/demo_runtime.py",
]
default_scope = "mmseg"

data_root = "data/moving_digits/"
max_iters = 300
classes = ("background", *"0123456789")

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[114.75] * 3,
        std=[57.375] * 3,
        bgr_to_rgb=True,
        size=(40, 40),
        test_cfg=dict(size_divisor=8),
    ),
    backbone=dict(type="maskfeat.VisionTransformer", out_type="featmap", final_norm=False),
    neck=dict(type="maskfeat.SimpleFeaturePyramid", in_channels=96, out_channels=32, num_outs=4),
    decode_head=dict(
        type="UPerHead",
        in_channels=[32] * 4,
        in_index=[0, 1, 2, 3],
        channels=32,
        num_classes=len(classes),
        norm_cfg=dict(type="BN"),
        # most pixels are background
        loss_decode=dict(type="CrossEntropyLoss", class_weight=[0.1] + [1.0] * 10),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

# Random transforms have to come after maskfeat.Cached, which keeps its results in memory.
train_pipeline = [
    dict(
        type="maskfeat.Cached",
        transforms=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="Resize", scale=(44, 44), keep_ratio=False, interpolation="area"),
        ],
    ),
    dict(type="RandomCrop", crop_size=(40, 40)),
    dict(type="PackSegInputs"),
]
# The labels are loaded after the resizing, because predictions are resized to the size of the file.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(40, 40), keep_ratio=False, interpolation="area"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        ann_file="annotations/segmentation_train_1000_seed0.txt",
        data_prefix=dict(img_path="frames/train", seg_map_path="masks/train"),
        img_suffix=".png",
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        data_root=data_root,
        ann_file="annotations/segmentation_val.txt",
        data_prefix=dict(img_path="frames/val", seg_map_path="masks/val"),
        img_suffix=".png",
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader["dataset"],
        ann_file="annotations/segmentation_test.txt",
        data_prefix=dict(img_path="frames/test", seg_map_path="masks/test"),
    ),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=30),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=30, T_max=max_iters - 30, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
visualizer = dict(type="SegLocalVisualizer")
