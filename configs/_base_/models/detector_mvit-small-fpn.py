"""Changes that MViT-S and a feature pyramid make to a detector with ViT-B/16. A config merges its model."""

mvit_small_fpn = dict(
    # the same as in the pre-training on clips
    data_preprocessor=dict(mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]),
    backbone=dict(
        _delete_=True,
        type="maskfeat.ImageMViT",
        arch="small",
        spatial_size=1024,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth",
        ),
    ),
    neck=dict(
        _delete_=True,
        type="FPN",
        in_channels=[192, 384, 768, 768],
        out_channels=256,
        num_outs=5,
        norm_cfg=dict(type="mmpretrain.LN2d"),
    ),
)
