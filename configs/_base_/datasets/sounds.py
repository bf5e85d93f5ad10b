"""Sounds of ``tools/data/signals.py`` as spectrograms of 40 x 74, kept in memory. A config adds crops and labels."""

default_scope = "mmpretrain"

data_root = "data/sounds/"
# Random transforms have to come after maskfeat.Cached, which keeps its results in memory.
read_sound = dict(
    type="maskfeat.Cached",
    transforms=[
        dict(
            type="maskfeat.LoadSpectrogram",
            sample_rate=8000,
            num_mels=40,
            window=256,
            hop=128,
            fft_size=512,
            decibels=(-80, 0),
        )
    ],
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="CustomDataset", data_root=data_root),
)
