"""Linear probing of ViT-B/16 on ADE20K: a linear layer on the frozen tokens of the last block, 8 GPUs of 2 images.

The tokens pass the final norm of the pre-training. MaskFeat's release has no such recipe, so the schedule is ours.
"""

_base_ = "./upernet_vit-base-p16_maskfeat-pre_8xb2-amp-512x512-160k_ade20k.py"

max_iters = 40_000
model = dict(
    backbone=dict(frozen_stages=12, drop_path_rate=0.0, out_indices=-1, final_norm=True),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_channels=768,
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=1e-4),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=8_000)
default_hooks = dict(checkpoint=dict(interval=8_000))
