"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the classes that a supervised ResNet-50 sees.

Its classes at 7 x 7 places, those of ImageNet-1k, are spread over 14 x 14 tokens. Its weights are mmpretrain's
``resnet50_8xb32_in1k``; nothing fetches them by themselves.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/pseudo-label.py"]

model = dict(
    _base_.pseudo_label,
    target_generator=dict(
        _base_.pseudo_label.target_generator, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
)
