"""AdamW with layer decay 0.65, 100 epochs of images; the learning rate is 2e-3 for every 512 images.

Mixed precision is our choice, for speed. The authors train in float32.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", fused=True, lr=8e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)
# First and last learning rate are the authors', who scale both with the batch size like the learning rate itself.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-8 / 2e-3, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=80,
        eta_min_ratio=1e-6 / 2e-3,
        by_epoch=True,
        begin=20,
        end=100,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=100, val_interval=1)
auto_scale_lr = dict(enable=True, base_batch_size=2048)
