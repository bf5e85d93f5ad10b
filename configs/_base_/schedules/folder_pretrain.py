"""AdamW, warm-up of 5 epochs, then cosine to the last epoch; float32, or mixed precision with ``--amp`` on a GPU.

The learning rate is not scaled with the batch size. The paper's learning rates are 2e-4 for every 256 images and 1e-4
for every 32 clips of a batch.
"""

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=0.02),
)
# Schedulers without an end stop with the training. In a training of 5 epochs or less, the warm-up takes half of it.
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=True, begin=5, convert_to_iter_based=True),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=300)
