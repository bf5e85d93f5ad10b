"""Fine-tuning of ViT-B/16 on ImageNet-1k, 100 epochs, on 8 GPUs of 256 images.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. For another MaskFeat
checkpoint, also the authors', use ``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/vit-base-p16.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/vit_finetune_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth",
        )
    )
)
