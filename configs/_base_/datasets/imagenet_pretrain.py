"""ImageNet-1k for pre-training: crops of 0.5 to 1.0 of the area, flips and block-wise masks of 40 %."""

default_scope = "mmpretrain"

train_pipeline = [
    dict(type="maskfeat.LoadWholeImage"),
    # Pillow's bicubic is antialiased, as in the authors' code. OpenCV's is not, which changes the HOG of a crop.
    dict(
        type="RandomResizedCrop",
        scale=224,
        crop_ratio_range=(0.5, 1.0),
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=(14, 14), mask_ratio=0.4),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="maskfeat.SkipBadFiles",
        dataset_type="ImageNet",
        data_root="data/imagenet",
        split="train",
        pipeline=train_pipeline,
    ),
)
visualizer = dict(
    type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
)
