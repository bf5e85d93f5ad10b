"""MaskFeat with MViT-S on clips of 16 frames: 8 x 14 x 14 tokens, because the last stage is not down-sampled."""

model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375, input_scale=255),
    backbone=dict(
        type="maskfeat.MaskedMViT", arch="maskfeat-small", temporal_size=16, spatial_size=224, drop_path_rate=0.0
    ),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)
