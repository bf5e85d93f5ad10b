"""AdamW and warm-up then cosine, 300 epochs of images; the learning rate is 2e-4 for every 256 images.

Mixed precision is our choice, for speed. The authors train in float32.
"""

_base_ = "./mvit_pretrain_300e.py"

# First and last learning rate are the authors', who scale both with the batch size like the learning rate itself.
changes = dict(
    LinearLR=dict(start_factor=1e-6 / 2e-4, end=30),
    CosineAnnealingLR=dict(T_max=270, eta_min_ratio=1e-6 / 2e-4, begin=30),
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
auto_scale_lr = dict(base_batch_size=2048)
