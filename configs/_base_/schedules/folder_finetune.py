"""AdamW with layer decay 0.75 for a classifier of a folder. The user of this file sets the number of steps."""

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
