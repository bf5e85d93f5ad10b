"""Linear probing of ViT-B/16 on ImageNet-1k: a batch norm and a linear layer on the frozen, mean-pooled features.

MaskFeat's release has no such recipe. This one is MAE's (He et al., 2022), as in mmpretrain's config of MAE. It starts
from the weights of the pre-training config in ``work_dirs``. For another MaskFeat checkpoint use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/vit-base-p16.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        frozen_stages=12,
        drop_path_rate=0.0,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth",
        ),
    ),
    neck=dict(type="ClsBatchNormNeck", input_features=768),
    head=dict(
        _delete_=True,
        type="LinearClsHead",
        num_classes=1000,
        in_channels=768,
        loss=dict(type="CrossEntropyLoss"),
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.01),
    ),
    train_cfg=None,
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=224, backend="pillow", interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=2048, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(type="AmpOptimWrapper", optimizer=dict(type="LARS", lr=6.4, weight_decay=0.0, momentum=0.9))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", T_max=80, eta_min=0.0, by_epoch=True, begin=10, end=90, convert_to_iter_based=True),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=90, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=16384)
