"""MaskFeat pre-training of ViT-L/16 on ImageNet-1k, 1600 epochs, on 16 GPUs of 128 images."""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(backbone=dict(arch="large"), neck=dict(in_channels=1024))

train_dataloader = dict(batch_size=128)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6 / 2e-4, by_epoch=True, begin=0, end=30, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=1570,
        eta_min_ratio=1e-6 / 2e-4,
        by_epoch=True,
        begin=30,
        end=1600,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=1600)
