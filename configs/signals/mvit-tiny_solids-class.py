"""Classification of Solids: a tiny MViT learns the classes, in mmaction2, from few labels.

It trains from scratch by default. To start from pre-trained weights, use
``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/demo_mvit-tiny.py",
    "../_base_/datasets/solids.py",
    "../_base_/schedules/demo_finetune.py",
    "../_base_/demo_runtime.py",
]

data_root = _base_.data_root
max_iters = 150

model = dict(
    type="Recognizer3D",
    data_preprocessor=dict(type="ActionDataPreprocessor", mean=[127.5], std=[25.0], format_shape="NCTHW"),
    backbone=dict(type="maskfeat.MViT", in_channels=1, out_type="avg_featmap"),
    cls_head=dict(type="MViTHead", in_channels=64, num_classes=8, dropout_ratio=0.0, average_clips="prob"),
)

train_pipeline = [
    *_base_.read_volume,
    dict(type="RandomCrop", size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
test_pipeline = [
    _base_.read_volume[0],
    dict(_base_.read_volume[1], test_mode=True),
    _base_.read_volume[2],
    dict(type="CenterCrop", crop_size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(batch_size=32, dataset=dict(ann_file=data_root + "labelled.txt", pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="maskfeat.VideoDataset",
        ann_file=data_root + "test.txt",
        data_prefix=dict(video=data_root),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="AccMetric", metric_list=("top_k_accuracy",))
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=30),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=30, T_max=max_iters - 30, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
