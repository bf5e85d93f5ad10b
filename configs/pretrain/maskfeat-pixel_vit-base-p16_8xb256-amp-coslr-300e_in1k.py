"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts normalised pixels.

The recipe for this target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.PixelGenerator"),
    neck=dict(out_channels=768),  # 3 colours x 16 x 16 pixels
)
