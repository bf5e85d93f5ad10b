"""AdamW with layer decay 0.875, 75 epochs of videos; the learning rate is 6e-4 for every 16 videos.

Mixed precision is our choice, for speed. The authors train in float32.
"""

_base_ = "./mvit_finetune_100e.py"

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.875))
# First and last learning rate are the authors', who scale both with the batch size like the learning rate itself.
changes = dict(
    LinearLR=dict(start_factor=1e-8 / 6e-4, end=5),
    CosineAnnealingLR=dict(T_max=70, eta_min_ratio=1e-5 / 6e-4, begin=5, end=75),
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=75)
