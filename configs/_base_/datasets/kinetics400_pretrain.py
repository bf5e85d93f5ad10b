"""Kinetics-400 for pre-training: clips 16x4, crops of 0.5 to 1.0 of the area, flips and cube masks of 40 %."""

default_scope = "mmaction"

# As in the authors' code, a clip of 16x4 spans 64 / 30 s at every frame rate, and videos are decoded with a short side
# of 256 pixels before any crop.
sampling = dict(
    type="SampleFrames", clip_len=16, frame_interval=4, num_clips=1, target_fps=30, out_of_bound_opt="repeat_last"
)
train_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    sampling,
    dict(type="maskfeat.DecodeClip", short_side=256),
    dict(type="maskfeat.RandomResizedCropFlip", scale=(224, 224), area_range=(0.5, 1.0), flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(8, 14, 14), window_size=(8, 7, 7), mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="maskfeat.SkipBadFiles",
        dataset_type="maskfeat.VideoDataset",
        data_root="data/kinetics400",
        ann_file="kinetics400_train_list_videos.txt",
        data_prefix=dict(video="videos_train"),
        pipeline=train_pipeline,
    ),
)
visualizer = dict(
    type="ActionVisualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
)
