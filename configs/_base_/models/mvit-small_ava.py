"""Fast R-CNN on MViT-S for action detection: RoIAlign on the temporal mean of the last tokens, 80 actions."""

model = dict(
    type="FastRCNN",
    _scope_="mmdet",
    data_preprocessor=dict(
        type="mmaction.ActionDataPreprocessor",
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape="NCTHW",
    ),
    backbone=dict(
        type="maskfeat.MViT",
        arch="small",
        temporal_size=16,
        spatial_size=224,
        drop_path_rate=0.1,
        # the plain map of the patch tokens, normalised, without the class token
        output_cls_token=False,
    ),
    roi_head=dict(
        type="AVARoIHead",
        bbox_roi_extractor=dict(
            type="maskfeat.CentredRoIExtractor3D",
            roi_layer_type="RoIAlign",
            featmap_stride=32,
            output_size=7,
            aligned=True,
            with_temporal_pool=True,
        ),
        bbox_head=dict(
            type="BBoxHeadAVA",
            background_class=True,
            in_channels=768,
            num_classes=81,
            multilabel=True,
            dropout_ratio=0.5,
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
