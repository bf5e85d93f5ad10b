"""HOG of frames and HOG of frame differences together, with the same loss weight. A config merges its model."""

motion_hog = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.MultiTargetGenerator",
        targets=dict(
            hog=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8),
            motion=dict(type="maskfeat.MotionHOGGenerator", nbins=9, cell_size=8),
        ),
    ),
    neck=dict(
        _delete_=True,
        type="maskfeat.MultiTargetNeck",
        necks=dict(
            hog=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
            motion=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
        ),
    ),
    head=dict(
        _delete_=True,
        type="maskfeat.MultiTargetHead",
        heads=dict(
            hog=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=0.5)),
            motion=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=0.5)),
        ),
    ),
)
