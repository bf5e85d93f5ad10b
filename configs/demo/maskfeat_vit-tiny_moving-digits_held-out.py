"""MaskFeat on frames of MovingDigits with loss and baseline of held-out frames; keeps the best weights, stops early."""

_base_ = "./maskfeat_vit-tiny_moving-digits.py"

val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        data_root=_base_.data_root,
        ann_file="annotations/image_val.txt",
        data_prefix="frames/val",
        pipeline=_base_.test_pipeline,  # its mask generator has a seed, so the masks are always the same
    ),
)
train_cfg = dict(val_interval=200)
val_cfg = dict()
val_evaluator = dict(type="maskfeat.MaskedLossMetric")
default_hooks = dict(checkpoint=dict(save_best="held_out/loss"))
custom_hooks = [dict(type="EarlyStoppingHook", monitor="held_out/loss", patience=3)]
