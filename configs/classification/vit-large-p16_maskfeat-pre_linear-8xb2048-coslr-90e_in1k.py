"""Linear probing of ViT-L/16 on ImageNet-1k, with the recipe for ViT-B/16."""

_base_ = "./vit-base-p16_maskfeat-pre_linear-8xb2048-coslr-90e_in1k.py"

model = dict(
    backbone=dict(
        arch="large",
        frozen_stages=24,
        init_cfg=dict(checkpoint="work_dirs/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k/epoch_1600.pth"),
    ),
    neck=dict(input_features=1024),
    head=dict(in_channels=1024),
)
