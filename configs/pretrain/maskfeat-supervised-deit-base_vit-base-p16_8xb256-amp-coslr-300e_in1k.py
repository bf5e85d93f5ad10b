"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a supervised ViT-B/16.

The teacher's weights are mmpretrain's ``deit-base_16xb64_in1k``; nothing fetches them by themselves.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
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
