"""HOG of three cell sizes, fine cells for early layers and coarse cells for the last one, as the targets.

It is LocalMIM's kind of target. A config merges the model and sets the backbone's ``early_layers`` and the necks'
``in_channels``.
"""

local_hog = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.MultiTargetGenerator",
        targets=dict(
            fine=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
            middle=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8),
            coarse=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=16),
        ),
    ),
    neck=dict(
        _delete_=True,
        type="maskfeat.MultiLayerNeck",
        necks=dict(
            fine=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=432),
            middle=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=108),
            coarse=dict(type="maskfeat.RegressionNeck", in_channels=768, out_channels=27),
        ),
    ),
    head=dict(
        _delete_=True,
        type="maskfeat.MultiTargetHead",
        heads={
            name: dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", loss_weight=1 / 3))
            for name in ("fine", "middle", "coarse")
        },
    ),
)
