"""A tenth of the pre-training's learning rate, warm-up of 5 epochs, then cosine: 100 epochs that start from weights.

The values are ours. They are for 2048 images or, with the same ratio as in the pre-training, 512 clips of a step.
"""

_base_ = "./mvit_pretrain_300e.py"

optim_wrapper = dict(optimizer=dict(lr=1.6e-4))
changes = dict(
    LinearLR=dict(start_factor=1e-2, end=5),
    CosineAnnealingLR=dict(T_max=95, eta_min_ratio=1e-2, begin=5, end=100),
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=100)
