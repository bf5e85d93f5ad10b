"""SGD, 40 epochs of videos; the learning rate is 1.25e-3 for every 64 videos.

The authors have no recipe for MaskFeat on Something-Something v2. These values are from their recipe for supervised
MViTv2-L (PySlowFast, ``configs/SSv2/MVITv2_L_40x3.yaml``), which has the optimizer of MViTv2-S. Mixed precision is our
choice.
"""

_base_ = "./mvit_sthv2_100e.py"

optim_wrapper = dict(clip_grad=dict(max_norm=2.0))  # authors
changes = dict(
    LinearLR=dict(start_factor=1e-6 / 1.25e-3),  # authors
    CosineAnnealingLR=dict(T_max=37, eta_min_ratio=1e-6 / 1.25e-3, end=40),  # authors
)
param_scheduler = [dict(part, **changes.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=40)  # authors
