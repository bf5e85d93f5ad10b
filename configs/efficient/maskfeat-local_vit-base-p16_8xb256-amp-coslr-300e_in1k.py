"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k with HOG of three cell sizes at layers 4, 8 and 12, on 8 GPUs.

The targets are of LocalMIM's kind, see docs/efficient.md for the differences. Masks and schedule are MaskFeat's for 300
epochs; LocalMIM aims at shorter trainings. Nobody has trained this config yet.
"""

_base_ = ["../pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/local-hog.py"]

model = dict(_base_.local_hog, backbone=dict(type="maskfeat.MultiLayerMaskedViT", early_layers=(3, 7)))
