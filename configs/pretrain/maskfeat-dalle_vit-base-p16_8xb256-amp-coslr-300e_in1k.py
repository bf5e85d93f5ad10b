"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the discrete tokens of DALL-E's dVAE.

The encoder's weights are a file of mmpretrain's, ``mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth`` of its
downloads; nothing fetches it by itself.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TokenGenerator",
        tokenizer=dict(
            type="mmpretrain.DALL-E",
            init_cfg=dict(type="Pretrained", checkpoint="data/targets/dalle_encoder.pth"),
        ),
    ),
    neck=dict(out_channels=8192),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)
