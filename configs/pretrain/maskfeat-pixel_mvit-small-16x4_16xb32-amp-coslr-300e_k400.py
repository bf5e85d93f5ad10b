"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts normalised pixels.

The recipe for this target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.PixelGenerator"),
    neck=dict(out_channels=768),  # 3 colours x 16 x 16 pixels
)
