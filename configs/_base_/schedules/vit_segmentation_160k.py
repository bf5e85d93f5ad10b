"""AdamW with layer decay 0.65 and a linear decay of the learning rate, 160,000 steps of 16 images.

The values are mmseg's for MAE's ViT-B on ADE20K, because MaskFeat's release has no recipe for segmentation.
"""

max_iters = 160_000
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", fused=True, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=max_iters),
]
train_cfg = dict(type="maskfeat.IterBasedTrainLoop", max_iters=max_iters, val_interval=16_000)
auto_scale_lr = dict(enable=True, base_batch_size=16)
log_processor = dict(by_epoch=False)
