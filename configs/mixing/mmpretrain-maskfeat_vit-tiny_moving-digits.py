"""mmpretrain's own MaskFeat with our HOG, which fits any token grid (upstream's fits 14 x 14); no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    _delete_=True,
    type="MaskFeat",
    data_preprocessor=dict(type="SelfSupDataPreprocessor", mean=[114.75] * 3, std=[57.375] * 3, to_rgb=True),
    backbone=dict(_base_.model.backbone, type="MaskFeatViT"),
    neck=dict(type="LinearNeck", in_channels=96, out_channels=108, norm_cfg=None),
    head=dict(type="MIMHead", loss=dict(type="PixelReconstructionLoss", criterion="L2")),
    # It is called without a mask, so it needs the size of a token
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4, patch_size=8),
)

train_dataloader = dict(collate_fn=dict(type="default_collate"))
