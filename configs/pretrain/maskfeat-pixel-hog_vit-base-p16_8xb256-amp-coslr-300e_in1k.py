"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts normalised pixels and HOG together.

Both losses have the same weight. The recipe for this target is not in the release notes that we have. This config uses
the recipe for HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/pixel-hog.py"]

model = _base_.pixel_hog
