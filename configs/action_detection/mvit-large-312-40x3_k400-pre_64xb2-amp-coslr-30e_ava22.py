"""Fine-tuning of MViT-L on AVA v2.2 at 312 pixels, clips 40x3, on 64 GPUs of 2 clips; other settings as for 16x4.

Blocks are recomputed in the backward pass to save memory. At 312 pixels the token grids have sides of 78, 39, 20 and
10. The last map reaches a little beyond the frame; its tokens are still 32 pixels apart.

All values of this file are ours.
"""

_base_ = "./mvit-large-16x4_k400-pre_16xb8-amp-coslr-30e_ava22.py"

size, clip_len, frame_interval = 312, 40, 3  # ours
model = dict(
    backbone=dict(
        temporal_size=clip_len,
        spatial_size=size,
        with_cp=True,
        # ours
        init_cfg=dict(checkpoint="work_dirs/mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400/epoch_75.pth"),
    )
)

# Changed settings of the transforms, by type
larger = {
    "maskfeat.SampleAVAFrames": dict(clip_len=clip_len, frame_interval=frame_interval),
    "RandomRescale": dict(scale_range=(357, 446)),  # ours: 256 to 320 times 312 / 224
    "RandomCrop": dict(size=size),
    "Resize": dict(scale=(-1, size)),  # ours: the whole frame
}
train_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **larger.get(step.type, {})) for step in _base_.val_pipeline]

# ours
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))
