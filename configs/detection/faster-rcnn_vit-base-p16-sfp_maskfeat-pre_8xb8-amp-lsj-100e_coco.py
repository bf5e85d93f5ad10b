"""Fine-tuning of Faster R-CNN with ViT-B/16 on COCO, 100 epochs, on 8 GPUs of 8 images.

The recipe follows ViTDet (Li et al., 2022), because MaskFeat's release has none for COCO. It starts from the weights of
the pre-training config of ViT-B in ``work_dirs``. For another MaskFeat checkpoint, also the authors', use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/faster-rcnn_vit-base-p16-sfp.py",
    "../_base_/datasets/coco_detection_lsj_1024.py",
    "../_base_/schedules/vit_detection_100e.py",
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
