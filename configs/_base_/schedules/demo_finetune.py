"""AdamW of the fine-tuning on MovingDigits; a config sets the number of steps and the warm-up."""

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
train_cfg = dict(type="maskfeat.IterBasedTrainLoop")
val_cfg = dict()
test_cfg = dict()
