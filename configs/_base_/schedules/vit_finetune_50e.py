"""AdamW with layer decay 0.75, 50 epochs of images; the learning rate is 1e-3 for every 256 images.

Mixed precision is our choice, for speed. The authors train in float32.
"""

_base_ = "./vit_finetune_100e.py"

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
# First and last learning rate are the authors', who scale both with the batch size like the learning rate itself.
changes = dict(
    LinearLR=dict(start_factor=1e-8 / 1e-3, end=5),
    CosineAnnealingLR=dict(T_max=45, eta_min_ratio=1e-6 / 1e-3, begin=5, end=50),
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=50)
