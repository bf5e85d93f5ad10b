"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the features of a ViT-B/16 of DINO.

The teacher's weights are the backbone alone, ``dino_vitbase16_pretrain.pth``, of DINO's own release; nothing fetches
it by itself.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/dino.py"]

model = dict(
    _base_.dino,
    target_generator=dict(_base_.dino.target_generator, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
