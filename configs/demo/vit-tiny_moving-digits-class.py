"""Which digit is it? A tiny ViT learns the digits of MovingDigits, in mmpretrain, from few labels.

From scratch as it stands; from pre-trained weights with
``--cfg-options model.backbone.init_cfg.type=maskfeat.Pretrained model.backbone.init_cfg.checkpoint=FILE``.
"""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
default_scope = "mmpretrain"

data_root = "data/moving_digits/"
max_iters = 500

model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(num_classes=10, mean=[114.75] * 3, std=[57.375] * 3, to_rgb=True),
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=40,
        patch_size=8,
        out_type="avg_featmap",
        final_norm=False,
    ),
    head=dict(type="LinearClsHead", in_channels=96, num_classes=10, loss=dict(type="CrossEntropyLoss")),
)

# The random part of the pipeline comes after what is kept in memory.
read_image = dict(
    type="maskfeat.Cached",
    transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(44, 44), interpolation="area")],
)
train_pipeline = [read_image, dict(type="RandomCrop", crop_size=40), dict(type="PackInputs")]
test_pipeline = [*read_image["transforms"], dict(type="CenterCrop", crop_size=40), dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        ann_file="annotations/image_train_1000_seed0.txt",
        data_prefix="frames/train",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        ann_file="annotations/image_val.txt",
        data_prefix="frames/val",
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        ann_file="annotations/image_test.txt",
        data_prefix="frames/test",
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type="Accuracy", topk=1)
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
