"""MaskFeat on clips of MovingDigits: a tiny MViT predicts pixels and HOG together; no labels."""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/targets/demo_pixel-hog.py"]

necks = {name: dict(neck, in_channels=64) for name, neck in _base_.pixel_hog.neck.necks.items()}
model = dict(_base_.pixel_hog, neck=dict(_base_.pixel_hog.neck, necks=necks))
