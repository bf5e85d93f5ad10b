"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts normalised pixels and HOG together.

Both losses weigh the same.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
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
