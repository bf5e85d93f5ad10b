"""MaskFeat on volumes of Solids: a tiny MViT predicts the HOG of masked cubes; no labels."""

_base_ = [
    "../_base_/models/demo_mvit-tiny.py",
    "../_base_/datasets/solids.py",
    "../_base_/schedules/demo_pretrain.py",
    "../_base_/demo_runtime.py",
]

max_iters = 300

# 8 slices of 32 x 32. A token is 2 slices of 8 x 8. Its target has 2 x 2 cells of 4 x 4 in one channel
token_grid = (4, 4, 4)
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=127.5, std=25.0),
    backbone=dict(type="maskfeat.MaskedMViT", in_channels=1),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=36),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)

train_pipeline = [
    *_base_.read_volume,
    dict(type="RandomCrop", size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
train_dataloader = dict(batch_size=64, dataset=dict(ann_file=_base_.data_root + "train.txt", pipeline=train_pipeline))
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=60),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=60, T_max=max_iters - 60, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
