"""Frames of MovingDigits, 44 x 44, kept in memory. A config adds the random transforms and the labels."""

default_scope = "mmpretrain"

data_root = "data/moving_digits/"
# Random transforms have to come after maskfeat.Cached, which keeps its results in memory.
read_image = dict(
    type="maskfeat.Cached",
    transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(44, 44), interpolation="area")],
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="CustomDataset", data_root=data_root, data_prefix="frames/train"),
)
