"""MaskFeat pre-training of MViT-S on Kinetics-400, the encoder on the visible mask units only, on 16 GPUs of 32 clips.

A mask unit is 2 frames of 32 x 32 pixels, the window of the paper's masks. The recipe of an encoder of visible tokens
is not given by the release notes at hand: masks and schedule are those of the paper's mode, the decoder is one of MAE's
kind. It was not trained.
"""

_base_ = "../pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(type="maskfeat.VisibleMViT"),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=768, embed_dims=256, num_layers=2, num_heads=4),
    neck=dict(in_channels=256),
)
