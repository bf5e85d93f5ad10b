"""MaskFeat on frames of MovingDigits: a tiny ViT predicts the HOG of masked blocks; no labels."""

_base_ = [
    "../_base_/models/demo_vit-tiny.py",
    "../_base_/datasets/moving_digits_frames.py",
    "../_base_/schedules/demo_pretrain.py",
    "../_base_/demo_runtime.py",
]

max_iters = 1200

# Images of 40 x 40. A token is 8 x 8 pixels. Its target has 2 x 2 cells of 4 x 4 pixels in 3 colours
token_grid = (5, 5)
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375, to_rgb=True),
    backbone=dict(
        type="maskfeat.MaskedViT",
    ),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=96, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)

train_pipeline = [
    _base_.read_image,
    dict(type="RandomCrop", crop_size=40),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackInputs"),
]
# The masks are always the same, for pictures
test_pipeline = [
    *_base_.read_image.transforms,
    dict(type="CenterCrop", crop_size=40),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4, seed=0),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=128,
    dataset=dict(ann_file="annotations/image_train.txt", pipeline=train_pipeline),
)
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=200),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=200, T_max=max_iters - 200, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
