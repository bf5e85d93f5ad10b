"""Something-Something v2 for recognition: frames spread evenly over the whole video, never flipped; 1 clip x 3 crops.

"authors" marks the values of their recipes for supervised MViTv2 on this data set, "ours" all other values.

Left and right are part of the labels ("pushing something from left to right"), so no transform mirrors a video: there
is no flip, and RandAugment has none.
"""

_base_ = "./kinetics400.py"

train_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="UniformSample", clip_len=16),  # authors
    dict(type="maskfeat.DecodeClip", short_side=256),  # ours
    # one draw for all frames, see kinetics400.py; authors: rand-m7-n4-mstd0.5-inc1
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
                num_policies=4,  # authors
                total_level=10,  # authors
                magnitude_level=7,  # authors
                magnitude_std=0.5,  # authors
                hparams=dict(pad_val=[128, 128, 128], interpolation="bicubic"),  # authors
            )
        ],
    ),
    dict(type="RandomResizedCrop", area_range=(0.08, 1.0)),  # ours
    dict(type="Resize", scale=(224, 224), keep_ratio=False),  # ours
    # ours
    dict(type="RandomErasing", erase_prob=0.25, mode="rand", fill_color=114.75, fill_std=57.375),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
val_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="UniformSample", clip_len=16, test_mode=True),  # authors
    dict(type="maskfeat.DecodeClip", short_side=256),  # ours
    dict(type="CenterCrop", crop_size=224),  # ours
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
test_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="UniformSample", clip_len=16, test_mode=True),  # authors
    dict(type="maskfeat.DecodeClip", short_side=224),  # ours
    dict(type="ThreeCrop", crop_size=224),  # ours
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(
    batch_size=16,  # ours
    num_workers=8,  # ours
    dataset=dict(
        data_root="data/sthv2",
        ann_file="sthv2_train_list_videos.txt",
        data_prefix=dict(video="videos"),
        pipeline=train_pipeline,
    ),
)
val_dataset = dict(data_root="data/sthv2", ann_file="sthv2_val_list_videos.txt", data_prefix=dict(video="videos"))
val_dataloader = dict(
    batch_size=16,  # ours
    num_workers=8,  # ours
    dataset=dict(pipeline=val_pipeline, **val_dataset),
)
test_dataloader = dict(
    batch_size=4,  # ours
    num_workers=8,  # ours
    dataset=dict(pipeline=test_pipeline, **val_dataset),
)
