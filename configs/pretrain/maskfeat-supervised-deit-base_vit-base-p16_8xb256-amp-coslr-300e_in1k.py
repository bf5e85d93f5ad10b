"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a supervised ViT-B/16.

The teacher's weights are mmpretrain's ``deit-base_16xb64_in1k``. They are not downloaded automatically. The recipe for
this target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat-mocov3_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(
        teacher=dict(
            type="mmpretrain.VisionTransformer",
            arch="deit-base",
            init_cfg=dict(checkpoint="data/targets/deit-base_pt-16xb64_in1k_20220216-db63c16c.pth"),
        )
    )
)
