"""MaskFeat and contrast in one pre-training on clips of MovingDigits: a tiny MViT, two views of each clip; no labels.

A batch has half as many clips as the demo's, so that a step encodes as many clips.
"""

_base_ = ["../demo/maskfeat_mvit-tiny_moving-digits.py", "../_base_/global_losses/demo_moco_v3.py"]

model = _base_.moco_v3
model.global_loss.projector.in_channels = 64
read_clip, *_, mask, pack = _base_.train_pipeline
view = [
    dict(type="RandomResizedCrop", area_range=(0.5, 1.0)),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.0),
    dict(type="FormatShape", input_format="NCTHW"),
]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        pipeline=[read_clip, dict(type="maskfeat.MultiView", num_views=2, transforms=[view]), mask, pack],
    ),
)
