"""MaskFeat on frames of MovingDigits, continued from the demo's shipped weights."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

max_iters = 300
model = dict(
    init_cfg=dict(
        type="maskfeat.Pretrained",
        checkpoint="{{ fileDirname }}/../demo/weights/maskfeat_vit-tiny_moving-digits.pth",
    )
)
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, T_max=max_iters - 50, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
