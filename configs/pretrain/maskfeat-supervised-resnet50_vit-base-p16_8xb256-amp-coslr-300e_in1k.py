"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a supervised ResNet-50.

The teacher's 7 x 7 features are interpolated to 14 x 14 tokens. Its weights are mmpretrain's ``resnet50_8xb32_in1k``.
They are not downloaded automatically. The recipe for this target is not in the release notes that we have. This config
uses the recipe for HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        teacher=dict(
            type="mmpretrain.ResNet",
            depth=50,
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/targets/resnet50_8xb32_in1k_20210831-ea4938fc.pth",
                prefix="backbone.",
            ),
        ),
    ),
    neck=dict(out_channels=2048),
    head=dict(loss=dict(kind="cosine")),
)
