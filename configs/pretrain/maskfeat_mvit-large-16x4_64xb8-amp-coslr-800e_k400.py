"""MaskFeat pre-training of MViT-L on Kinetics-400, 800 epochs, on 64 GPUs of 8 clips."""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(backbone=dict(arch="maskfeat-large"), neck=dict(in_channels=1152))

train_dataloader = dict(batch_size=8)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6 / 1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=790,
        eta_min_ratio=1e-6 / 1e-4,
        by_epoch=True,
        begin=10,
        end=800,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=800)
