"""Classification of volumes with MViT-S, 100 epochs, on 8 GPUs of 16 parts of 16 slices. All values are ours.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. A volume is tested at four
depths, whose scores are averaged. Set the folders and lists with ``data_prefix.video`` and ``ann_file`` of the data
sets, and the number of classes with ``model.cls_head.num_classes``.
"""

_base_ = [
    "../_base_/models/mvit-small.py",
    "../_base_/datasets/folder_volumes.py",
    "../_base_/schedules/mvit_finetune_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(mean=[114.75], std=[57.375], blending=None),
    backbone=dict(
        in_channels=1,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat-volumes_mvit-small-16x1_8xb16-amp-coslr-300e_folder/epoch_300.pth",
        ),
    ),
    cls_head=dict(num_classes=10),
)

train_pipeline = [*_base_.train_pipeline[:5], dict(type="PackActionInputs")]  # without the mask
test_pipeline = [
    _base_.open_volume,
    dict(_base_.sampling, num_clips=4, test_mode=True),
    dict(type="maskfeat.DecodeClip", short_side=224),
    dict(type="CenterCrop", crop_size=224),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="maskfeat.VideoDataset",
        ann_file="",
        data_prefix=dict(video=""),
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="AccMetric", metric_list=("top_k_accuracy", "mean_class_accuracy"))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
