"""MaskFeat on clips of MovingDigits: a tiny MViT predicts the HOG of frame differences; no labels."""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

model = dict(target_generator=dict(type="maskfeat.MotionHOGGenerator"))
