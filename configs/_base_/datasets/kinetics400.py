"""Kinetics-400 for recognition: clips 16x4; 10 clips x 1 crop for testing."""

_base_ = "./kinetics400_pretrain.py"

sampling = _base_.sampling
train_pipeline = [
    *_base_.train_pipeline[:3],  # open, sample, decode
    # mmpretrain's RandAugment with one draw for all frames, because mmaction2's RandAugment needs pytorchvideo, which
    # its requirements lack. Two operations, each with a probability of one half: rand-m7-mstd0.5-inc1.
    dict(
        type="TransformBroadcaster",
        mapping=dict(img="imgs"),
        auto_remap=True,
        share_random_params=True,
        transforms=[
            dict(
                type="RandAugment",
                _scope_="mmpretrain",
                policies="timm_increasing",
                num_policies=2,
                total_level=10,
                magnitude_level=7,
                magnitude_std=0.5,
                hparams=dict(pad_val=[128, 128, 128], interpolation="bicubic"),
            )
        ],
    ),
    dict(type="RandomResizedCrop", area_range=(0.08, 1.0)),
    dict(type="Resize", scale=(224, 224), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="RandomErasing", erase_prob=0.25, mode="rand", fill_color=114.75, fill_std=57.375),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
val_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    dict(sampling, test_mode=True),
    dict(type="maskfeat.DecodeClip", short_side=256),
    dict(type="CenterCrop", crop_size=224),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
test_pipeline = [val_pipeline[0], dict(sampling, num_clips=10, test_mode=True), *val_pipeline[2:]]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataset = dict(
    type="maskfeat.VideoDataset",
    data_root="data/kinetics400",
    ann_file="kinetics400_val_list_videos.txt",
    data_prefix=dict(video="videos_val"),
    test_mode=True,
)
val_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(pipeline=val_pipeline, **val_dataset),
)
test_dataloader = dict(val_dataloader, batch_size=2, dataset=dict(pipeline=test_pipeline, **val_dataset))
val_evaluator = dict(type="AccMetric")
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
