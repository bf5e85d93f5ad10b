"""Fine-tuning of ViT-L/16 on ImageNet-1k, 50 epochs, on 16 GPUs of 128 images.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. For another checkpoint use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/vit-base-p16.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/vit_finetune_50e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        arch="large",
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k/epoch_1600.pth",
        ),
    ),
    head=dict(in_channels=1024),
)

train_dataloader = dict(batch_size=128)
