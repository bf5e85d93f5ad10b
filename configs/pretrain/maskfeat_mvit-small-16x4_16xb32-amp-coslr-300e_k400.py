"""MaskFeat pre-training of MViT-S on Kinetics-400, 300 epochs, on 16 GPUs of 32 clips."""

_base_ = [
    "../_base_/models/maskfeat_mvit-small.py",
    "../_base_/datasets/kinetics400_pretrain.py",
    "../_base_/schedules/mvit_pretrain_300e.py",
    "../_base_/default_runtime.py",
]
