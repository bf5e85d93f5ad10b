"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts normalised pixels and HOG together.

Both losses have the same weight. The recipe for this target is not in the release notes that we have. This config uses
the recipe for HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/pixel-hog.py"]

model = _base_.pixel_hog
