"""Normalised pixels and HOG together, with the same loss weight, as the target. A config merges its model."""

pixel_hog = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.MultiTargetGenerator",
        targets=dict(
            pixel=dict(type="maskfeat.PixelGenerator"),
            hog=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8),
        ),
    ),
    neck=dict(
        _delete_=True,
        type="maskfeat.MultiTargetNeck",
        necks=dict(
            pixel=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=768),
            hog=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
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
