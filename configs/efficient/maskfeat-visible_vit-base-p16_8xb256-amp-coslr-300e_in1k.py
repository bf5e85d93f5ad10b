"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k, encoder of visible tokens only, on 8 GPUs of 256 images.

The recipe for an encoder of visible tokens is not in the release notes that we have. Masks and schedule are the paper's
for an encoder of all tokens. The decoder is similar to MAE's, but smaller than MAE's 8 layers of 512 channels. Nobody
has trained this config yet.
"""

_base_ = "../pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(type="maskfeat.VisibleViT"),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=768, embed_dims=384, num_layers=4, num_heads=6),
    neck=dict(in_channels=384),
)
