"""MaskFeat on frames of MovingDigits: a tiny ViT predicts the HOG of hidden blocks; no labels."""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
default_scope = "mmpretrain"

data_root = "data/moving_digits/"
max_iters = 1200

# Images of 40 x 40; a token is 8 x 8 pixels, its target 2 x 2 cells of 4 x 4 pixels in 3 colours
token_grid = (5, 5)
model = dict(
    type="maskfeat.MaskFeat",
    data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor", mean=114.75, std=57.375, to_rgb=True),
    backbone=dict(
        type="maskfeat.MaskedViT",
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=40,
        patch_size=8,
    ),
    target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
    neck=dict(type="maskfeat.RegressionNeck", in_channels=96, out_channels=108),
    head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
)

# The random part of the pipeline comes after what is kept in memory.
read_image = dict(
    type="maskfeat.Cached",
    transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(44, 44), interpolation="area")],
)
train_pipeline = [
    read_image,
    dict(type="RandomCrop", crop_size=40),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackInputs"),
]
# The same masks each time, for pictures
test_pipeline = [
    *read_image["transforms"],
    dict(type="CenterCrop", crop_size=40),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4, seed=0),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        ann_file="annotations/image_train.txt",
        data_prefix="frames/train",
        pipeline=train_pipeline,
    ),
)
train_cfg = dict(type="maskfeat.IterBasedTrainLoop", max_iters=max_iters)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=200),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=200, T_max=max_iters - 200, eta_min_ratio=0.01),
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
