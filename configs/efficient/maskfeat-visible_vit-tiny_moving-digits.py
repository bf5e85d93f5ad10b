"""MaskFeat on frames of MovingDigits, encoder of visible tokens only; no labels.

The encoder, the target and the masks are the demo's. The decoder is not in the paper: it is small and similar to MAE's.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(type="maskfeat.VisibleViT"),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=96, embed_dims=48, num_layers=2, num_heads=3),
    neck=dict(in_channels=48),
)
