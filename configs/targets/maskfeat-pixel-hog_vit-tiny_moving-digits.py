"""MaskFeat on frames of MovingDigits: a tiny ViT predicts pixels and HOG together; no labels."""

_base_ = ["../demo/maskfeat_vit-tiny_moving-digits.py", "../_base_/targets/demo_pixel-hog.py"]

model = _base_.pixel_hog
