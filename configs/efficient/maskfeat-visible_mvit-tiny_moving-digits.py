"""MaskFeat on clips of MovingDigits, encoder of visible mask units only; no labels.

Unlike the demo's MViT, this one pools: in each time step 8 x 8 tokens of 4 x 4 pixels become 4 x 4 tokens, and
attention has 4 x 4 keys. So a mask unit is one token of the last stage, 2 frames of 8 x 8 pixels. The decoder is not in
the paper: it is small and similar to MAE's.
"""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

model = dict(
    type="maskfeat.VisibleMaskFeat",
    backbone=dict(
        type="maskfeat.VisibleMViT",
        arch=dict(_delete_=True, embed_dims=32, num_layers=4, num_heads=1, downscale_indices=[1], dim_mul_indices=[1]),
        patch_cfg=dict(kernel_size=(3, 7, 7), stride=(2, 4, 4), padding=(1, 3, 3)),
        adaptive_kv_stride=(1, 2, 2),
    ),
    decoder=dict(type="maskfeat.MAEDecoder", in_channels=64, embed_dims=48, num_layers=2, num_heads=3),
    neck=dict(in_channels=48),
)
