"""MaskFeat on clips of MovingDigits: a tiny MViT predicts pixels and HOG together; no labels."""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.MultiTargetGenerator",
        targets=dict(
            pixel=dict(type="maskfeat.PixelGenerator"),
            hog=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
        ),
    ),
    neck=dict(
        _delete_=True,
        type="maskfeat.MultiTargetNeck",
        necks=dict(
            pixel=dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=192),
            hog=dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=108),
        ),
    ),
    head=dict(
        _delete_=True,
        type="maskfeat.MultiTargetHead",
        heads=dict(
            pixel=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=0.5)),
            hog=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=0.5)),
        ),
    ),
)
