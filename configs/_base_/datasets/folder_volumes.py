"""Volumes (.npy) for pre-training: 16 neighbouring slices at a random depth, crops, flips and cube masks of 40 %.

Thinner volumes repeat their last slice. ``window`` holds the values that become 0 and 255. A flip exchanges left and
right; set ``flip_ratio=0.0`` if the side matters. All values are ours.

Set the folder with ``train_dataloader.dataset.data_prefix.video`` and the list of the files in it with
``train_dataloader.dataset.ann_file``. Labels are not needed.
"""

_base_ = "./kinetics400_pretrain.py"

window = (-1000.0, 400.0)  # Hounsfield units of a chest CT
open_volume = dict(type="maskfeat.OpenVolume", window=window)
sampling = dict(type="SampleFrames", clip_len=16, frame_interval=1, num_clips=1, out_of_bound_opt="repeat_last")
train_pipeline = [
    open_volume,
    sampling,
    dict(type="maskfeat.DecodeClip", short_side=256),
    dict(type="maskfeat.RandomResizedCropFlip", scale=(224, 224), area_range=(0.5, 1.0), flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(8, 14, 14), window_size=(8, 7, 7), mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
train_dataloader = dict(
    batch_size=16, dataset=dict(data_root="", ann_file="", data_prefix=dict(video=""), pipeline=train_pipeline)
)
