"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k, the encoder on the visible tokens only, on 8 GPUs of 256 images.

The recipe of an encoder of visible tokens is not given by the release notes at hand: masks and schedule are those of
the paper's mode, the decoder is one of MAE's kind, lighter than MAE's own 8 layers of 512 channels. It was not trained.
"""

_base_ = "../pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(type="maskfeat.VisibleViT"),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=768, embed_dims=384, num_layers=4, num_heads=6),
    neck=dict(in_channels=384),
)
