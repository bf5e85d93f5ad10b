"""Actions per box: a tiny MViT learns the AVA-style actions of MovingDigits, in mmaction2, from few labels.

The boxes are given, as in AVA. The model predicts the actions of the digit in each box, including its motion. It trains
from scratch by default. To start from pre-trained weights, use
``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/demo_mvit-tiny.py",
    "../_base_/datasets/moving_digits_clips.py",
    "../_base_/schedules/demo_finetune.py",
    "../_base_/demo_runtime.py",
]

data_root = _base_.data_root
max_iters = 260
num_classes = 13  # 8 motions, 4 attributes, and mmaction2's class 0 for none of them

model = dict(
    type="mmdet.FastRCNN",
    _scope_="mmdet",
    data_preprocessor=dict(
        type="mmaction.ActionDataPreprocessor", mean=[114.75] * 3, std=[57.375] * 3, format_shape="NCTHW"
    ),
    backbone=dict(
        type="maskfeat.MViT",
        output_cls_token=False,
    ),
    roi_head=dict(
        type="AVARoIHead",
        bbox_roi_extractor=dict(type="maskfeat.CentredRoIExtractor3D", featmap_stride=8, output_size=4),
        bbox_head=dict(
            type="BBoxHeadAVA",
            background_class=True,
            in_channels=64,
            num_classes=num_classes,
            multilabel=True,
            topk=(1, 3),
        ),
    ),
    train_cfg=dict(
        rcnn=dict(
            assigner=dict(type="MaxIoUAssignerAVA", pos_iou_thr=0.9, neg_iou_thr=0.9, min_pos_iou=0.9),
            sampler=dict(type="RandomSampler", num=32, pos_fraction=1, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=1.0,
        )
    ),
    test_cfg=dict(rcnn=None),
)

read_clip = dict(
    _base_.read_clip,
    transforms=[
        dict(type="maskfeat.OpenVideo"),
        dict(type="maskfeat.SampleAVAFrames", clip_len=8, frame_interval=2, test_mode=True),
        *_base_.read_clip.transforms[2:],  # decode, resize to 36 x 36
    ],
)
train_pipeline = [
    read_clip,
    dict(type="RandomCrop", size=32),
    dict(type="FormatShape", input_format="NCTHW", collapse=True),
    dict(type="PackActionInputs"),
]
test_pipeline = [
    *read_clip["transforms"],
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="FormatShape", input_format="NCTHW", collapse=True),
    dict(type="PackActionInputs"),
]
# Clips have 16 frames at 8 frames per second. The labels are for second 1, which is frame 8.
ava = dict(
    type="maskfeat.AVADataset",
    label_file=data_root + "annotations/ava_action_list.pbtxt",
    num_classes=num_classes,
    use_frames=False,
    start_index=0,
    timestamp_start=0,
    fps=8,
)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        _delete_=True,
        ann_file=data_root + "annotations/ava_train_1000_seed0.csv",
        exclude_file=data_root + "annotations/ava_excluded_timestamps_train.csv",
        data_prefix=dict(img=data_root + "videos/train"),
        pipeline=train_pipeline,
        **ava,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        ann_file=data_root + "annotations/ava_val.csv",
        exclude_file=data_root + "annotations/ava_excluded_timestamps_val.csv",
        data_prefix=dict(img=data_root + "videos/val"),
        pipeline=test_pipeline,
        test_mode=True,
        **ava,
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader["dataset"],
        ann_file=data_root + "annotations/ava_test.csv",
        exclude_file=data_root + "annotations/ava_excluded_timestamps_test.csv",
        data_prefix=dict(img=data_root + "videos/test"),
    ),
)
val_evaluator = dict(
    type="maskfeat.AVAMetric",
    ann_file=data_root + "annotations/ava_val.csv",
    exclude_file=data_root + "annotations/ava_excluded_timestamps_val.csv",
    label_file=data_root + "annotations/ava_action_list.pbtxt",
    num_classes=num_classes,
)
test_evaluator = dict(
    val_evaluator,
    ann_file=data_root + "annotations/ava_test.csv",
    exclude_file=data_root + "annotations/ava_excluded_timestamps_test.csv",
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, T_max=max_iters - 50, eta_min_ratio=0.01),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
