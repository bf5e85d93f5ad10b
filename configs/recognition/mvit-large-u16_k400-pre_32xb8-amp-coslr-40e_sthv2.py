"""Fine-tuning of MViT-L on Something-Something v2 from Kinetics-400 weights, on 32 GPUs of 8 videos.

The recipe is that of MViT-S. Starts from what the fine-tuning config on Kinetics-400 leaves in ``work_dirs``.
"""

_base_ = "./mvit-small-u16_k400-pre_16xb16-amp-coslr-100e_sthv2.py"

model = dict(
    backbone=dict(
        arch="large",
        init_cfg=dict(checkpoint="work_dirs/mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-100e_k400/epoch_100.pth"),
    ),
    cls_head=dict(in_channels=1152),
)

train_dataloader = dict(batch_size=8)
