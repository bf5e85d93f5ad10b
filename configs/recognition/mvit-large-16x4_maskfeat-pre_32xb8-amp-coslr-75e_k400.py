"""Fine-tuning of MViT-L on Kinetics-400, on 32 GPUs of 8 videos, each augmented twice.

The recipe of MViT-L is not given by the release notes at hand: it is that of MViT-S. Starts from what the
pre-training config of the same model leaves in ``work_dirs``; from any other checkpoint with
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = "./mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py"

model = dict(
    backbone=dict(
        arch="large",
        init_cfg=dict(checkpoint="work_dirs/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400/epoch_800.pth"),
    ),
    cls_head=dict(in_channels=1152),
)

train_dataloader = dict(batch_size=8)
