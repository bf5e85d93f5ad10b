"""Fine-tuning of MViT-L on Kinetics-400, 75 epochs, on 32 GPUs of 8 videos.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. For another checkpoint use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/mvit-small.py",
    "../_base_/datasets/kinetics400.py",
    "../_base_/schedules/mvit_finetune_75e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.2,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400/epoch_800.pth",
        ),
    ),
    cls_head=dict(in_channels=1152),
)

train_dataloader = dict(batch_size=8)
