"""Fine-tuning of ViT-L/16 on ImageNet-1k, on 16 GPUs of 128 images.

The recipe of ViT-L is not given by the release notes at hand: it is that of ViT-B. Starts from what the
pre-training config of the same model leaves in ``work_dirs``; from any other checkpoint with
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = "./vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py"

model = dict(
    backbone=dict(
        arch="large",
        init_cfg=dict(checkpoint="work_dirs/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k/epoch_1600.pth"),
    ),
    head=dict(in_channels=1024),
)

train_dataloader = dict(batch_size=128)
