"""The pre-training's learning rate, warm-up of 5 epochs, then cosine: 100 epochs that start from weights.

The lengths are ours. In the study of docs/continued.md this rate was better than a tenth of it.
"""

_base_ = "./mvit_pretrain_300e.py"

changes = dict(
    LinearLR=dict(start_factor=1e-2, end=5),
    CosineAnnealingLR=dict(T_max=95, eta_min_ratio=1e-2, begin=5, end=100),
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=100)
