"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the features of a ViT-B/16 of DINO.

The teacher's weights are the file ``dino_vitbase16_pretrain.pth`` of DINO's release, which holds only the backbone.
They are not downloaded automatically. The recipe for this target is not in the release notes that we have. This config
uses the recipe for HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/dino.py"]

model = dict(
    _base_.dino,
    target_generator=dict(_base_.dino.target_generator, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
