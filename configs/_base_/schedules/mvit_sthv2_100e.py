"""SGD, 100 epochs of videos; the learning rate is 2.5e-3 for every 128 videos.

The authors have no recipe for MaskFeat on Something-Something v2. These values are from their recipe for supervised
MViTv2-S (PySlowFast, ``configs/SSv2/MVITv2_S_16x4.yaml``). Mixed precision is our choice.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    # authors; lr for the batch of auto_scale_lr
    optimizer=dict(type="SGD", lr=5e-3, momentum=0.9, nesterov=True, weight_decay=1e-4),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),  # authors
)
param_scheduler = [
    # authors
    dict(type="LinearLR", start_factor=1e-4 / 2.5e-3, by_epoch=True, begin=0, end=3, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=97,  # authors
        eta_min_ratio=1e-6 / 2.5e-3,  # authors
        by_epoch=True,
        begin=3,  # authors
        end=100,  # authors
        convert_to_iter_based=True,
    ),
]
# authors; val_interval is ours
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=100, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=256)  # ours
