"""MaskFeat on clips of MovingDigits: a tiny MViT predicts HOG as Dalal and Triggs normalise it; no labels."""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(gradient="central", norm="l2-hys", block_size=2),
    neck=dict(out_channels=432),  # each of the 108 values is in 4 blocks
)
