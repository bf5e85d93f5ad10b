"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k, 300 epochs, on 8 GPUs of 256 images."""

_base_ = [
    "../_base_/models/maskfeat_vit-base-p16.py",
    "../_base_/datasets/imagenet_pretrain.py",
    "../_base_/schedules/vit_pretrain_300e.py",
    "../_base_/default_runtime.py",
]
