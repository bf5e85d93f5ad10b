"""Fine-tuning of Mask R-CNN with ViT-B/16 on COCO, 100 epochs, on 8 GPUs of 8 images.

Recipe and initial weights are the same as for Faster R-CNN. Masks are also read, predicted and evaluated.
"""

_base_ = "./faster-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py"

model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=80,
            norm_cfg=_base_.norm_cfg,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=True))),
)

# Changed settings of the transforms, by type
with_masks = dict(LoadAnnotations=dict(with_mask=True), RandomCrop=dict(recompute_bbox=True))
train_pipeline = [dict(step, **with_masks.get(step.type, {})) for step in _base_.train_pipeline]
test_pipeline = [dict(step, **with_masks.get(step.type, {})) for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator
