"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the discrete tokens of BEiT v2's tokenizer.

The tokenizer's weights are mmpretrain's download ``mmselfsup/1.x/target_generator_ckpt/vqkd_encoder.pth``. They are not
downloaded automatically. The recipe for this target is not in the release notes that we have. This config uses the
recipe for HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TokenGenerator",
        stride=16,
        mean=127.5,
        std=127.5,
        tokenizer=dict(
            type="mmpretrain.VQKD",
            encoder_config=dict(
                arch="base",
                img_size=224,
                patch_size=16,
                out_type="featmap",
                use_abs_pos_emb=True,
                use_rel_pos_bias=False,
                use_shared_rel_pos_bias=False,
                layer_scale_init_value=0.0,
            ),
            init_cfg=dict(type="Pretrained", checkpoint="data/targets/vqkd_encoder.pth"),
        ),
    ),
    neck=dict(out_channels=8192),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)
