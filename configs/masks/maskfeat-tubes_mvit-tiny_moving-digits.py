"""MaskFeat on clips of MovingDigits: tubes mask the same tokens at all times, more in later epochs; no labels."""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

max_epochs = 20
train_pipeline = [
    *_base_.train_pipeline[:3],  # read, crop to 32 x 32
    dict(type="maskfeat.TubeMaskGenerator", token_grid=_base_.token_grid, mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
# Each worker keeps its decoded clips in memory until it ends
train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(_delete_=True, type="DefaultSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
train_cfg = dict(_delete_=True, type="maskfeat.EpochBasedTrainLoop", max_epochs=max_epochs)
custom_hooks = [
    dict(type="maskfeat.MaskRatioHook", schedule=dict(type="steps", milestones=(10, 15), ratios=(0.6, 0.8)))
]

param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        begin=5,
        end=max_epochs,
        T_max=max_epochs - 5,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(checkpoint=dict(interval=max_epochs, by_epoch=True))
log_processor = dict(by_epoch=True)
