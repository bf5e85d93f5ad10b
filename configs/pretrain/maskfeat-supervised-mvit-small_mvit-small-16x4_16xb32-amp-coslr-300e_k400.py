"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the features of a supervised MViT-S.

The teacher sees whole clips. Its 7 x 7 features are interpolated to 14 x 14 tokens. Its weights are mmaction2's
``mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb``. They are not downloaded automatically. The recipe for this
target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        input_type="clip",
        teacher=dict(
            type="mmaction.MViT",
            arch="small",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/targets/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth",
                prefix="backbone.",
            ),
        ),
    ),
    neck=dict(out_channels=768),
    head=dict(loss=dict(kind="cosine")),
)
