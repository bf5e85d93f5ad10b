"""MaskFeat and contrast in one pre-training on frames of MovingDigits: a tiny ViT, two views of each frame; no labels.

A batch has half as many frames as the demo's, so that a step encodes as many images.
"""

_base_ = [
    "../demo/maskfeat_vit-tiny_moving-digits.py",
    "../_base_/global_losses/demo_moco_v3.py",
    "../_base_/global_losses/moco_v3_views.py",
]

model = _base_.moco_v3
model.global_loss.projector.in_channels = 96
view = [
    dict(type="RandomResizedCrop", scale=40, crop_ratio_range=(0.5, 1.0)),
    _base_.colour_jitter,
    _base_.grayscale,
]
read_image, *_, mask, pack = _base_.train_pipeline
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        pipeline=[read_image, dict(type="maskfeat.MultiView", num_views=2, transforms=[view]), mask, pack],
    ),
)
