"""MaskFeat on frames of MovingDigits: a tiny ViT predicts the classes that a classifier assigns.

The classifier is the demo's. Train it first: ``python tools/train.py configs/demo/vit-tiny_moving-digits-class.py``.
"""

_base_ = ["../demo/maskfeat_vit-tiny_moving-digits.py", "../_base_/targets/demo_pseudo-label.py"]

model = _base_.pseudo_label
