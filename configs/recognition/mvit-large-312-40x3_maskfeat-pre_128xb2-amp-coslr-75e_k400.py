"""Fine-tuning of MViT-L on Kinetics-400 at 312 pixels, clips 40x3; 4 clips x 3 crops for testing.

Positions of the 16x4 pre-training at 224 pixels are resized while loading. The recipe of this size is not given by the
release notes at hand: it is that of 16x4, on 128 GPUs of 2 videos. Blocks are recomputed in the
backward pass to save memory.
"""

_base_ = "./mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400.py"

size, clip_len, frame_interval = 312, 40, 3
model = dict(backbone=dict(temporal_size=clip_len, spatial_size=size, with_cp=True))

train_pipeline = _base_.train_pipeline
train_pipeline[1].update(clip_len=clip_len, frame_interval=frame_interval)
train_pipeline[2].update(short_side=357)
train_pipeline[5].update(scale=(size, size))
val_pipeline = _base_.val_pipeline
val_pipeline[1].update(clip_len=clip_len, frame_interval=frame_interval)
val_pipeline[2].update(short_side=357)
val_pipeline[3].update(crop_size=size)
test_pipeline = _base_.test_pipeline
test_pipeline[1].update(clip_len=clip_len, frame_interval=frame_interval, num_clips=4)
test_pipeline[2].update(short_side=size)
test_pipeline[3].update(type="ThreeCrop", crop_size=size)

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))
