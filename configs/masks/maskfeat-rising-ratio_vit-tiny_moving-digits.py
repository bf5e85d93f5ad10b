"""MaskFeat on frames of MovingDigits; the share of masked tokens rises from 20 to 60 % during training; no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

train_pipeline = [
    *_base_.train_pipeline[:2],  # read, crop to 40 x 40
    dict(type="maskfeat.BlockMaskGenerator", token_grid=_base_.token_grid, mask_ratio=0.2),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# In iterations, because the training loop counts no epochs
custom_hooks = [dict(type="maskfeat.MaskRatioHook", schedule=dict(type="linear", ratio=0.6), by_epoch=False)]
