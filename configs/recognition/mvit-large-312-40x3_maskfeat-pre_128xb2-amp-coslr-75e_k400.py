"""Fine-tuning of MViT-L on Kinetics-400 at 312 pixels, clips 40x3; other settings as for clips 32x3."""

_base_ = "./mvit-large-312-32x3_maskfeat-pre_128xb2-amp-coslr-75e_k400.py"

clip_len = 40
model = dict(backbone=dict(temporal_size=clip_len))

longer = dict(SampleFrames=dict(clip_len=clip_len))
train_pipeline = [dict(step, **longer.get(step.type, {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **longer.get(step.type, {})) for step in _base_.val_pipeline]
test_pipeline = [dict(step, **longer.get(step.type, {})) for step in _base_.test_pipeline]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
