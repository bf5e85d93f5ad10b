"""Detection of digits: a tiny ViT learns to detect the digits of MovingDigits, in mmdet, from few labels.

The detector is a Faster R-CNN on a simple feature pyramid. It trains from scratch by default. To start from pre-trained
weights, use ``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/demo_vit-tiny.py",
    "../_base_/schedules/demo_finetune.py",
    "../_base_/demo_runtime.py",
]
default_scope = "mmdet"

data_root = "data/moving_digits/"
max_iters = 200
classes = tuple("0123456789")
strides = [2, 4, 8, 16]

model = dict(
    type="FasterRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[114.75] * 3, std=[57.375] * 3, bgr_to_rgb=True, pad_size_divisor=8
    ),
    backbone=dict(
        type="maskfeat.WindowedViT",
        window_size=3,
        global_attn_indexes=(1, 3),
    ),
    neck=dict(type="maskfeat.SimpleFeaturePyramid", in_channels=96, out_channels=64, num_outs=4),
    rpn_head=dict(
        type="RPNHead",
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(type="AnchorGenerator", scales=[4], ratios=[1.0, 2.0], strides=strides),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True),
        loss_bbox=dict(type="L1Loss"),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=5, sampling_ratio=2),
            out_channels=64,
            featmap_strides=strides,
            finest_scale=8,
        ),
        bbox_head=dict(
            type="Shared2FCBBoxHead",
            in_channels=64,
            fc_out_channels=128,
            roi_feat_size=5,
            num_classes=len(classes),
            bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=True,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False),
            loss_bbox=dict(type="L1Loss"),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
            sampler=dict(type="RandomSampler", num=32, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(nms_pre=100, max_per_img=20, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False
            ),
            sampler=dict(type="RandomSampler", num=8, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=100, max_per_img=10, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.5), max_per_img=10),
    ),
)

# Random transforms have to come after maskfeat.Cached, which keeps its results in memory.
train_pipeline = [
    dict(
        type="maskfeat.Cached",
        transforms=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="Resize", scale=(44, 44), keep_ratio=False, interpolation="area"),
        ],
    ),
    dict(type="RandomCrop", crop_size=(40, 40), allow_negative_crop=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(40, 40), keep_ratio=False, interpolation="area"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/detection_train_1000_seed0.json",
        data_prefix=dict(img="frames/train"),
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/detection_val.json",
        data_prefix=dict(img="frames/val"),
        metainfo=dict(classes=classes),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader["dataset"],
        ann_file="annotations/detection_test.json",
        data_prefix=dict(img="frames/test"),
    ),
)
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "annotations/detection_val.json", metric="bbox")
test_evaluator = dict(val_evaluator, ann_file=data_root + "annotations/detection_test.json")
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=30),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=30, T_max=max_iters - 30, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
visualizer = dict(type="DetLocalVisualizer")
