"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the classes that a supervised ResNet-50 sees.

Its classes at 7 x 7 places, those of ImageNet-1k, are spread over 14 x 14 tokens. Its weights are mmpretrain's
``resnet50_8xb32_in1k``; nothing fetches them by themselves.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/pseudo-label.py"]

model = _base_.pseudo_label
