"""Fine-tuning of Faster R-CNN with ViT-B/16 on COCO, 100 epochs, on 8 GPUs of 8 images.

The recipe is after ViTDet (Li et al., 2022), MaskFeat's release has none for COCO. Starts from what the pre-training
config of ViT-B leaves in ``work_dirs``; from any other MaskFeat checkpoint, the authors' included, with
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/faster-rcnn_vit-base-p16-sfp.py",
    "../_base_/datasets/coco_instance_lsj_1024.py",
    "../_base_/schedules/vit_detection_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth",
        )
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(with_mask=False)
train_pipeline[4].update(recompute_bbox=False)
test_pipeline = _base_.test_pipeline
test_pipeline[2].update(with_mask=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric="bbox")
test_evaluator = dict(metric="bbox")
