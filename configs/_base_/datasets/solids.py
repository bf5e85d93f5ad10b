"""Solids of ``tools/data/signals.py``: 8 of 12 slices at a random depth. A config adds crops and labels."""

default_scope = "mmaction"

data_root = "data/solids/"
read_volume = [
    dict(type="maskfeat.OpenVolume", window=(-400, 400)),
    dict(type="SampleFrames", clip_len=8, frame_interval=1, num_clips=1),
    dict(type="maskfeat.DecodeClip"),
]
train_dataloader = dict(
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="maskfeat.VideoDataset", data_prefix=dict(video=data_root)),
)
