"""MViT-S on clips of 16 frames for recognition: mean pooling, then norm, then a linear layer of tiny weights."""

model = dict(
    type="Recognizer3D",
    data_preprocessor=dict(
        type="ActionDataPreprocessor",
        mean=[114.75, 114.75, 114.75],
        std=[57.375, 57.375, 57.375],
        format_shape="NCTHW",
        blending=dict(
            type="RandomBatchAugment",
            augments=[
                dict(type="MixupBlending", alpha=0.8, num_classes=400),
                dict(type="CutmixBlending", alpha=1.0, num_classes=400),
            ],
        ),
    ),
    backbone=dict(
        type="maskfeat.MViT",
        arch="small",
        temporal_size=16,
        spatial_size=224,
        drop_path_rate=0.1,
        out_type="avg_featmap",
    ),
    cls_head=dict(
        type="MViTHead",
        in_channels=768,
        num_classes=400,
        dropout_ratio=0.0,
        init_scale=0.001,
        label_smooth_eps=0.1,
        average_clips="prob",
    ),
)
