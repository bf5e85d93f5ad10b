"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the classes that a supervised ResNet-50 assigns.

The ResNet-50 predicts ImageNet-1k classes at 7 x 7 positions, which are resized to 14 x 14 tokens. Its weights are
mmpretrain's ``resnet50_8xb32_in1k``. They are not downloaded automatically. The recipe for this target is not in the
release notes that we have. This config uses the recipe for HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/pseudo-label.py"]

model = dict(
    _base_.pseudo_label,
    target_generator=dict(
        _base_.pseudo_label.target_generator, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
