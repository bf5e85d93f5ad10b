"""A folder of sounds for pre-training, with sub-folders: log-mel spectrograms of 128 x 1024 and block-wise masks.

1024 columns are 10.25 s. Longer sounds are cropped at a random place, shorter ones padded with silence. There are no
flips: they would change the direction of time or the order of pitches. All values are ours.

Set the folder with ``train_dataloader.dataset.data_root``. Labels are not needed.
"""

_base_ = "./imagenet_pretrain.py"

endings = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
read_sound = dict(type="maskfeat.LoadSpectrogram", sample_rate=16000, num_mels=128, window=400, hop=160)
train_pipeline = [
    read_sound,
    dict(type="RandomCrop", crop_size=(128, 1024), pad_if_needed=True),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=(8, 64), mask_ratio=0.4),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        type="maskfeat.SkipBadFiles",
        dataset_type="maskfeat.ImageDataset",
        data_root="",
        with_label=False,
        extensions=endings,
        pipeline=train_pipeline,
    ),
)
