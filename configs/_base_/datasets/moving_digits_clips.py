"""Clips of MovingDigits, 8 frames of 36 x 36, kept in memory. A config adds the random transforms and the labels."""

default_scope = "mmaction"

data_root = "data/moving_digits/"
# Random transforms have to come after maskfeat.Cached, which keeps its results in memory.
read_clip = dict(
    type="maskfeat.Cached",
    transforms=[
        dict(type="maskfeat.OpenVideo"),
        dict(type="SampleFrames", clip_len=8, frame_interval=2, num_clips=1, test_mode=True),
        dict(type="maskfeat.DecodeClip"),
        dict(type="Resize", scale=(36, 36), keep_ratio=False),
    ],
)
train_dataloader = dict(
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="VideoDataset", data_prefix=dict(video=data_root + "videos/train")),
)
