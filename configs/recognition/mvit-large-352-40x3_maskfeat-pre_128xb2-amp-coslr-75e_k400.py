"""Fine-tuning of MViT-L on Kinetics-400 at 352 pixels, clips 40x3; other settings as for 312 pixels."""

_base_ = "./mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400.py"

size = 352
model = dict(backbone=dict(spatial_size=size))

larger = {
    "maskfeat.DecodeClip": dict(short_side=402),
    "Resize": dict(scale=(size, size)),
    "CenterCrop": dict(crop_size=size),
}
larger_views = {"maskfeat.DecodeClip": dict(short_side=size), "ThreeCrop": dict(crop_size=size)}
train_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.val_pipeline]
test_pipeline = [dict(step, **larger_views.get(step.type, {})) for step in _base_.test_pipeline]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
