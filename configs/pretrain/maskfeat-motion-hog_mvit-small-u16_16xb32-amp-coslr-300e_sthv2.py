"""MaskFeat pre-training of MViT-S on Something-Something v2 that predicts HOG and the HOG of frame differences.

Both losses have the same weight. Targets, data and schedule are our choice. The schedule is the one for HOG on
Kinetics-400.
"""

_base_ = [
    "../_base_/models/maskfeat_mvit-small.py",
    "../_base_/targets/motion-hog.py",
    "../_base_/datasets/sthv2_pretrain.py",
    "../_base_/schedules/mvit_pretrain_300e.py",
    "../_base_/default_runtime.py",
]

model = _base_.motion_hog
