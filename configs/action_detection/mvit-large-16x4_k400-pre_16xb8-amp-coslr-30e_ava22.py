"""Fine-tuning of MViT-L on AVA v2.2 from Kinetics-400 weights, on 16 GPUs of 8 clips; other settings as for MViT-S.

"authors" marks the values of their recipe for Kinetics-400 with MViT-L, "ours" all other values.
"""

_base_ = "./mvit-small-16x4_k400-pre_8xb16-amp-coslr-30e_ava22.py"

model = dict(
    backbone=dict(
        arch="large",  # authors
        drop_path_rate=0.2,  # authors
        # ours
        init_cfg=dict(checkpoint="work_dirs/mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400/epoch_75.pth"),
    ),
    roi_head=dict(bbox_head=dict(in_channels=1152)),  # authors: the channels of MViT-L
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.875))  # authors

train_dataloader = dict(batch_size=8)  # ours
