"""AdamW with layer decay 0.7, 100 epochs; the learning rate is 1e-4 for every 64 images.

The values follow ViTDet (Li et al., 2022), because MaskFeat's release has no recipe for COCO.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", fused=True, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.7, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", begin=0, end=100, by_epoch=True, milestones=[88, 96], gamma=0.1),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=100, val_interval=5)
auto_scale_lr = dict(enable=True, base_batch_size=64)
