"""AdamW with layer decay 0.75, 30 epochs of clips; the learning rate is 5e-4 for every 128 clips.

The recipe for AVA is not given by the release notes at hand: the optimizer is that of Kinetics, its learning rate and
length are our choice for a data set that is small and starts from fine-tuned weights.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 100, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=25,
        eta_min_ratio=1 / 100,
        by_epoch=True,
        begin=5,
        end=30,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=30, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=128)
