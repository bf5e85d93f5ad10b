"""MaskFeat on clips of MovingDigits: a tiny MViT predicts HOG and the HOG of frame differences together; no labels."""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/targets/demo_motion-hog.py"]

model = _base_.motion_hog
