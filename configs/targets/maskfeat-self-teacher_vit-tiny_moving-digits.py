"""MaskFeat on frames of MovingDigits: a tiny ViT predicts features of its own moving average; no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.SelfTeacherGenerator", momentum=0.99, num_layers=2),
    neck=dict(out_channels=96),
    head=dict(loss=dict(kind="smooth_l1")),
)
