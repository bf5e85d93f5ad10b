"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a ViT-B/16 of MoCo v3.

The teacher's weights are mmpretrain's ``mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k``. They are not downloaded
automatically. The recipe for this target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat-dino_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(
        teacher=dict(
            type="mmpretrain.MoCoV3ViT",
            init_cfg=dict(
                _delete_=True,
                type="Pretrained",
                checkpoint="data/targets/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k-224_20220826-25213343.pth",
                prefix="backbone.",
            ),
        )
    )
)
