"""MaskFeat pre-training of MViT-L on Kinetics-400, 800 epochs, on 64 GPUs of 8 clips."""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(backbone=dict(arch="maskfeat-large"), neck=dict(in_channels=1152))

train_dataloader = dict(batch_size=8)

longer = dict(CosineAnnealingLR=dict(T_max=790, end=800))
param_scheduler = [dict(part, **longer.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=800)
