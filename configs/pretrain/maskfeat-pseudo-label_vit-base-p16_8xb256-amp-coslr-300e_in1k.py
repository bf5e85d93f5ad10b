"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the classes that a supervised ResNet-50 assigns.

The ResNet-50 predicts ImageNet-1k classes at 7 x 7 positions, which are resized to 14 x 14 tokens. Its weights are
mmpretrain's ``resnet50_8xb32_in1k``. They are not downloaded automatically. The recipe for this target is not in the
release notes that we have. This config uses the recipe for HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/pseudo-label.py"]

model = _base_.pseudo_label
