"""MaskFeat on frames of MovingDigits at 24 pixels instead of 40: 3 x 3 tokens; no labels.

Fine-tune with the demo's configs, at 40 pixels.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(backbone=dict(img_size=24))
# 44 pixels with crops of 40 become 26 with crops of 24
read_image = dict(
    _base_.read_image,
    transforms=[_base_.read_image.transforms[0], dict(_base_.read_image.transforms[1], scale=(26, 26))],
)
train_pipeline = [
    read_image,
    dict(type="RandomCrop", crop_size=24),
    dict(_base_.train_pipeline[2], token_grid=(3, 3)),
    dict(type="PackInputs"),
]
test_pipeline = [
    *read_image["transforms"],
    dict(type="CenterCrop", crop_size=24),
    dict(_base_.test_pipeline[3], token_grid=(3, 3)),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
