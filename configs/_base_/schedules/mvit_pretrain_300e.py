"""AdamW and warm-up then cosine, 300 epochs of clips; the learning rate is 1e-4 for every 32 clips.

Mixed precision is our choice, for speed. The authors train in float32.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="AdamW", fused=True, lr=1.6e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=0.02),
)
# First and last learning rate are the authors', who scale both with the batch size like the learning rate itself.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6 / 1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=290,
        eta_min_ratio=1e-6 / 1e-4,
        by_epoch=True,
        begin=10,
        end=300,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=300)
auto_scale_lr = dict(enable=True, base_batch_size=512)
