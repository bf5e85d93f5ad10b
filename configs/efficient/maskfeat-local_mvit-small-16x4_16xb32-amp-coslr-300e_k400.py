"""MaskFeat pre-training of MViT-S on Kinetics-400 with HOG of three cell sizes, on 16 GPUs of 32 clips.

The last blocks of the first two stages have tokens of 4 and 8 pixels and predict cells of these sizes; the last block
predicts cells of 16 pixels. The targets are of LocalMIM's kind, see docs/efficient.md for the differences. Masks and
schedule are MaskFeat's. Nobody has trained this config yet.
"""

_base_ = ["../pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/local-hog.py"]

# 4 x 4 tokens of 192 channels and 2 x 2 of 384 lie under each masked token
channels = dict(fine=16 * 192, middle=4 * 384, coarse=768)
necks = {name: dict(neck, in_channels=channels[name]) for name, neck in _base_.local_hog.neck.necks.items()}
model = dict(
    _base_.local_hog,
    backbone=dict(type="maskfeat.MultiLayerMaskedMViT", early_layers=(0, 2)),
    neck=dict(_base_.local_hog.neck, necks=necks),
)
