"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts normalised pixels and HOG together.

Both losses weigh the same.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/pixel-hog.py"]

model = _base_.pixel_hog
