"""MaskFeat on frames of MovingDigits: three layers of a tiny ViT predict HOG of three cell sizes; no labels."""

_base_ = ["../demo/maskfeat_vit-tiny_moving-digits.py", "../_base_/targets/demo_local-hog.py"]

necks = {name: dict(neck, in_channels=96) for name, neck in _base_.local_hog.neck.necks.items()}
model = dict(
    _base_.local_hog,
    backbone=dict(_base_.local_hog.backbone, type="maskfeat.MultiLayerMaskedViT"),
    neck=dict(_base_.local_hog.neck, necks=necks),
)
