"""Classification of Sounds: a tiny ViT learns the classes, in mmpretrain, from few labels.

It trains from scratch by default. To start from pre-trained weights, use
``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/demo_vit-tiny.py",
    "../_base_/datasets/sounds.py",
    "../_base_/schedules/demo_finetune.py",
    "../_base_/demo_runtime.py",
]

max_iters = 100

model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(num_classes=8, mean=[150.0], std=[25.0]),
    backbone=dict(type="VisionTransformer", in_channels=1, img_size=(40, 64), out_type="avg_featmap", final_norm=False),
    head=dict(type="LinearClsHead", in_channels=96, num_classes=8, loss=dict(type="CrossEntropyLoss")),
)

train_pipeline = [_base_.read_sound, dict(type="RandomCrop", crop_size=(40, 64)), dict(type="PackInputs")]
test_pipeline = [
    *_base_.read_sound.transforms,
    dict(type="CenterCrop", crop_size=(64, 40)),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=64, dataset=dict(ann_file="labelled.txt", pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", data_root=_base_.data_root, ann_file="test.txt", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=1)
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=30),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=30, T_max=max_iters - 30, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
