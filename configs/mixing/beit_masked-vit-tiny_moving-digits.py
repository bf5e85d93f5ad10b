"""mmpretrain's BEiT with our backbone: the masked ViT predicts the discrete tokens of masked blocks; no labels.

The tokenizer is a tiny version of DALL-E's encoder with random weights. For the real one, take mmpretrain's
``beit_beit-base-p16_8xb256-amp-coslr-300e_in1k`` and replace its backbone by ``maskfeat.MIMViT``.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

vocab_size = 64
model = dict(
    _delete_=True,
    type="BEiT",
    # The tokenizer's images are scaled from 0 to 255 to 0.1 to 0.9, as for DALL-E
    data_preprocessor=dict(
        type="TwoNormDataPreprocessor",
        mean=[114.75] * 3,
        std=[57.375] * 3,
        second_mean=[-31.875] * 3,
        second_std=[318.75] * 3,
        to_rgb=True,
    ),
    backbone=dict(_base_.model.backbone, type="maskfeat.MIMViT", out_type="raw"),
    head=dict(type="BEiTV1Head", embed_dims=96, num_embed=vocab_size, loss=dict(type="CrossEntropyLoss")),
    target_generator=dict(type="DALL-E", n_hid=16, n_blk_per_group=1, vocab_size=vocab_size),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    # The model and the tokenizer get the same crop, because the tokenizer's stride is 8 too
    dict(
        type="RandomResizedCropAndInterpolationWithTwoPic",
        size=40,
        second_size=40,
        interpolation="bicubic",
        second_interpolation="lanczos",
        scale=(0.5, 1.0),
    ),
    dict(type="BEiTMaskGenerator", input_size=5, num_masking_patches=10, min_num_patches=2),
    dict(type="PackInputs"),
]
train_dataloader = dict(collate_fn=dict(type="default_collate"), dataset=dict(pipeline=train_pipeline))
