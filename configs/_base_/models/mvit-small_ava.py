"""Fast R-CNN on MViT-S for action detection: RoIAlign on the temporal mean of the last tokens, 80 actions.

"authors" marks the values of their recipe for Kinetics-400, because they released none for AVA. "ours" marks all other
values.
"""

model = dict(
    type="FastRCNN",
    _scope_="mmdet",
    data_preprocessor=dict(
        type="mmaction.ActionDataPreprocessor",
        mean=[114.75, 114.75, 114.75],  # authors
        std=[57.375, 57.375, 57.375],  # authors
        format_shape="NCTHW",
    ),
    backbone=dict(
        type="maskfeat.MViT",
        arch="small",
        temporal_size=16,  # authors
        spatial_size=224,  # authors
        drop_path_rate=0.1,  # authors
        # the plain map of the patch tokens, normalised, without the class token
        output_cls_token=False,
    ),
    roi_head=dict(
        type="AVARoIHead",
        bbox_roi_extractor=dict(
            # ours; the authors' code uses an ordinary aligned RoIAlign, type="SingleRoIExtractor3D"
            type="maskfeat.CentredRoIExtractor3D",
            roi_layer_type="RoIAlign",
            featmap_stride=32,  # authors: the stride of MViT's last tokens
            output_size=7,  # ours
            aligned=True,
            with_temporal_pool=True,
        ),
        bbox_head=dict(
            type="BBoxHeadAVA",
            background_class=True,
            in_channels=768,  # authors: the channels of MViT-S
            num_classes=81,  # AVA's 80 actions plus one
            multilabel=True,
            dropout_ratio=0.5,  # ours
        ),
    ),
    train_cfg=dict(
        rcnn=dict(
            # ours
            assigner=dict(type="MaxIoUAssignerAVA", pos_iou_thr=0.9, neg_iou_thr=0.9, min_pos_iou=0.9),
            # ours
            sampler=dict(type="RandomSampler", num=32, pos_fraction=1, neg_pos_ub=-1, add_gt_as_proposals=True),
            pos_weight=1.0,  # ours
        )
    ),
    test_cfg=dict(rcnn=None),
)
