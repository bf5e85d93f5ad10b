"""Which way do they move? A tiny MViT learns the motions of MovingDigits, in mmaction2, from few labels.

From scratch as it stands; from pre-trained weights with
``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
default_scope = "mmaction"

data_root = "data/moving_digits/"
max_iters = 320
num_classes = 8

model = dict(
    type="Recognizer3D",
    data_preprocessor=dict(type="ActionDataPreprocessor", mean=[114.75] * 3, std=[57.375] * 3, format_shape="NCTHW"),
    backbone=dict(
        type="maskfeat.MViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
        temporal_size=8,
        spatial_size=32,
        patch_cfg=dict(kernel_size=(3, 9, 9), stride=(2, 8, 8), padding=(1, 4, 4)),
        adaptive_kv_stride=(1, 1, 1),
        out_type="avg_featmap",
    ),
    cls_head=dict(type="MViTHead", in_channels=64, num_classes=num_classes, dropout_ratio=0.0, average_clips="prob"),
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
    dict(type="PackActionInputs"),
]
test_pipeline = [
    *read_clip["transforms"],
    dict(type="CenterCrop", crop_size=32),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="VideoDataset",
        ann_file=data_root + "annotations/motion_train_1000_seed0.txt",
        data_prefix=dict(video=data_root + "videos/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VideoDataset",
        ann_file=data_root + "annotations/motion_val.txt",
        data_prefix=dict(video=data_root + "videos/val"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="VideoDataset",
        ann_file=data_root + "annotations/motion_test.txt",
        data_prefix=dict(video=data_root + "videos/test"),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
val_evaluator = dict(type="AccMetric", metric_list=("top_k_accuracy",))
test_evaluator = val_evaluator
train_cfg = dict(type="maskfeat.IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, T_max=max_iters - 50, eta_min_ratio=0.01),
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
