"""AdamW with layer decay 0.75, 50 epochs of images; the learning rate is 1e-3 for every 256 images.

Mixed precision is ours, for speed. The authors train in float32.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=8e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
)
# Both ends are the authors', who scale them with the batch like the learning rate itself.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-8 / 1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=45,
        eta_min_ratio=1e-6 / 1e-3,
        by_epoch=True,
        begin=5,
        end=50,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=50, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=2048)
