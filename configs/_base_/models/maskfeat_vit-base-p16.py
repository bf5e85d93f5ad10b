"""MaskFeat with ViT-B/16: 14 x 14 tokens. The target of each token is the HOG of 2 x 2 cells in 3 colours."""

model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(
        type="maskfeat.MaskFeatDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        input_scale=255,
    ),
    backbone=dict(type="maskfeat.MaskedViT", arch="base", img_size=224, patch_size=16, drop_path_rate=0.0),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)
