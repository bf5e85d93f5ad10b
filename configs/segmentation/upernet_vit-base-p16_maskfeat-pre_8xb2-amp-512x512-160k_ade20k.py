"""Fine-tuning of UPerNet with ViT-B/16 on ADE20K, 160,000 steps, on 8 GPUs of 2 images.

It starts from the weights of the pre-training config in ``work_dirs``. For another MaskFeat checkpoint use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/upernet_vit-base-p16.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/default_runtime.py",
    "../_base_/schedules/vit_segmentation_160k.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth",
        )
    )
)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=16_000),
)
