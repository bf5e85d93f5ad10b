"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts normalised pixels and HOG together.

Both losses weigh the same.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

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
