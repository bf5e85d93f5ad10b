"""Something-Something v2 for pre-training: frames spread evenly, crops of 0.5 to 1.0 of the area, cube masks of 40 %.

"ours" marks our choices. Crops and masks are as for Kinetics-400. A video is not flipped, because left and right are
part of the labels.
"""

_base_ = "./kinetics400_pretrain.py"

train_pipeline = [
    dict(type="maskfeat.OpenVideo"),
    dict(type="UniformSample", clip_len=16),  # ours
    dict(type="maskfeat.DecodeClip", short_side=256),  # ours
    dict(type="maskfeat.RandomResizedCropFlip", scale=(224, 224), area_range=(0.5, 1.0), flip_ratio=0.0),  # ours
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=(8, 14, 14), window_size=(8, 7, 7), mask_ratio=0.4),  # ours
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
train_dataloader = dict(
    batch_size=32,  # ours
    num_workers=8,  # ours
    dataset=dict(
        data_root="data/sthv2",
        ann_file="sthv2_train_list_videos.txt",
        data_prefix=dict(video="videos"),
        pipeline=train_pipeline,
    ),
)
