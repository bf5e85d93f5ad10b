"""MaskFeat on spectrograms of Sounds: a tiny ViT predicts the HOG of masked blocks; no labels."""

_base_ = [
    "../_base_/models/demo_vit-tiny.py",
    "../_base_/datasets/sounds.py",
    "../_base_/schedules/demo_pretrain.py",
    "../_base_/demo_runtime.py",
]

max_iters = 1200

# 40 mel bands x 64 windows. A token is 8 x 8. Its target has 2 x 2 cells of 4 x 4 in one channel
token_grid = (5, 8)
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=150.0, std=25.0),
    backbone=dict(type="maskfeat.MaskedViT", in_channels=1, img_size=(40, 64)),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=96, out_channels=36),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)

train_pipeline = [
    _base_.read_sound,
    dict(type="RandomCrop", crop_size=(40, 64)),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=64, dataset=dict(ann_file="train.txt", pipeline=train_pipeline))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=240),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=240, T_max=max_iters - 240, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
