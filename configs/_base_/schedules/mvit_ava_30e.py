"""AdamW with layer decay 0.75, 30 epochs of clips; the learning rate is 5e-4 for every 128 clips.

"authors" marks the values of their recipe for Kinetics-400, because they released none for AVA. "ours" marks all other
values. Learning rate and length are our choice, because the data set is small and the initial weights are fine-tuned.
"""

optim_wrapper = dict(
    type="AmpOptimWrapper",  # ours; the authors train in float32
    optimizer=dict(
        type="AdamW",  # authors
        fused=True,  # ours: the same steps, in fewer kernels
        lr=5e-4,  # ours
        betas=(0.9, 0.999),  # authors
        weight_decay=0.05,  # authors
    ),
    constructor="maskfeat.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),  # authors
    clip_grad=dict(max_norm=5.0),  # authors
)
param_scheduler = [
    # ours
    dict(type="LinearLR", start_factor=1 / 100, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR",
        T_max=25,  # ours
        eta_min_ratio=1 / 100,  # ours
        by_epoch=True,
        begin=5,  # ours
        end=30,  # ours
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type="maskfeat.EpochBasedTrainLoop", max_epochs=30, val_interval=1)  # ours
auto_scale_lr = dict(enable=True, base_batch_size=128)  # ours
