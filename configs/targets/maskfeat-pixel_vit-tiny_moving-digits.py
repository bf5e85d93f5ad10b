"""MaskFeat on frames of MovingDigits: a tiny ViT predicts normalised pixels; no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.PixelGenerator"),
    neck=dict(out_channels=192),  # 3 colours x 8 x 8 pixels
)
