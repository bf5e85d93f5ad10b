"""MaskFeat pre-training of ViT-L/16 on ImageNet-1k, 1600 epochs, on 16 GPUs of 128 images."""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(backbone=dict(arch="large"), neck=dict(in_channels=1024))

train_dataloader = dict(batch_size=128)

longer = dict(CosineAnnealingLR=dict(T_max=1570, end=1600))
param_scheduler = [dict(part, **longer.get(part.type, {})) for part in _base_.param_scheduler]
train_cfg = dict(max_epochs=1600)
