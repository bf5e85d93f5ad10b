"""MaskFeat on clips of MovingDigits: a tiny MViT predicts the HOG of hidden cubes; no labels."""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
default_scope = "mmaction"

data_root = "data/moving_digits/"
max_iters = 500

# 8 frames of 32 x 32; a token is 2 frames of 8 x 8 pixels, its target 2 x 2 cells of 4 x 4 pixels in 3 colours
token_grid = (4, 4, 4)
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375),
    backbone=dict(
        type="maskfeat.MaskedMViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
        temporal_size=8,
        spatial_size=32,
        patch_cfg=dict(kernel_size=(3, 9, 9), stride=(2, 8, 8), padding=(1, 4, 4)),
        adaptive_kv_stride=(1, 1, 1),
    ),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=64, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)

# The random part of the pipeline comes after what is kept in memory.
read_clip = dict(
    type="maskfeat.Cached",
    transforms=[
        dict(type="maskfeat.OpenVideo"),
        dict(type="SampleFrames", clip_len=8, frame_interval=2, num_clips=1, test_mode=True),
        dict(type="maskfeat.DecodeClip"),
        dict(type="Resize", scale=(36, 36), keep_ratio=False),
    ],
)
train_pipeline = [
    read_clip,
    dict(type="RandomCrop", size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
# The same masks each time, for pictures
test_pipeline = [
    *read_clip["transforms"],
    dict(type="CenterCrop", crop_size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="maskfeat.CubeMaskGenerator", token_grid=token_grid, mask_ratio=0.4, seed=0),
    dict(type="PackActionInputs", algorithm_keys=("mask",)),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="VideoDataset",
        ann_file=data_root + "annotations/motion_train.txt",
        data_prefix=dict(video=data_root + "videos/train"),
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(type="maskfeat.IterBasedTrainLoop", max_iters=max_iters)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=150),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=150, T_max=max_iters - 150, eta_min_ratio=0.01),
]

default_hooks = dict(
    training_state=dict(type="maskfeat.TrainingStateHook"),
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="maskfeat.CheckpointHook", interval=max_iters, by_epoch=False, save_optimizer=False),
    non_finite_loss=dict(type="maskfeat.NonFiniteLossHook", action="stop"),
    termination=dict(type="maskfeat.TerminationHook"),
)
log_processor = dict(by_epoch=False)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
randomness = dict(seed=0)
