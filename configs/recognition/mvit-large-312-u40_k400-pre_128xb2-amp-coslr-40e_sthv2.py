"""Fine-tuning of MViT-L on Something-Something v2 at 312 pixels, 40 frames spread over the video.

The recipe is the same as for 224 pixels, on 128 GPUs of 2 videos. Blocks are recomputed in the backward pass to save
memory. It starts from the weights of the fine-tuning config of this size on Kinetics-400 in ``work_dirs``.
"""

_base_ = "./mvit-large-u16_k400-pre_32xb8-amp-coslr-40e_sthv2.py"

size, clip_len = 312, 40  # authors
model = dict(
    backbone=dict(
        temporal_size=clip_len,
        spatial_size=size,
        with_cp=True,
        init_cfg=dict(checkpoint="work_dirs/mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400/epoch_75.pth"),
    )
)

# Changed settings of the transforms, by type
larger = {
    "UniformSample": dict(clip_len=clip_len),
    "maskfeat.DecodeClip": dict(short_side=357),  # ours: 256 times 312 / 224
    "Resize": dict(scale=(size, size)),
    "CenterCrop": dict(crop_size=size),
    "ThreeCrop": dict(crop_size=size),
}
larger_views = {**larger, "maskfeat.DecodeClip": dict(short_side=size)}
train_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.val_pipeline]
test_pipeline = [dict(step, **larger_views.get(step.type, {})) for step in _base_.test_pipeline]

# ours
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(pipeline=val_pipeline))  # ours
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=test_pipeline))  # ours
