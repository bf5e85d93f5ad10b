"""MaskFeat pre-training of MViT-S on Kinetics-400, encoder of visible mask units only, on 16 GPUs of 32 clips.

A mask unit is 2 frames of 32 x 32 pixels, as the windows of the paper's masks. The recipe for an encoder of visible
tokens is not in the release notes that we have. Masks and schedule are the paper's for an encoder of all tokens, and
the decoder is similar to MAE's. This config was not trained.
"""

_base_ = "../pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(type="maskfeat.VisibleMViT"),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=768, embed_dims=256, num_layers=2, num_heads=4),
    neck=dict(in_channels=256),
)
