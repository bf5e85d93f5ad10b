"""MaskFeat on clips of MovingDigits: three layers of a tiny MViT predict HOG of three cell sizes; no labels."""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/targets/demo_local-hog.py"]

necks = {name: dict(neck, in_channels=64) for name, neck in _base_.local_hog.neck.necks.items()}
model = dict(
    _base_.local_hog,
    backbone=dict(_base_.local_hog.backbone, type="maskfeat.MultiLayerMaskedMViT"),
    neck=dict(_base_.local_hog.neck, necks=necks),
)
