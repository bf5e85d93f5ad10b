"""Fine-tuning of ViT-B/16 on sounds in class folders, 100 epochs, on 8 GPUs of 64 spectrograms. All values are ours.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. Set the folders with
``data_root`` of the data sets, and the number of classes with ``model.head.num_classes`` and
``model.data_preprocessor.num_classes``.
"""

_base_ = [
    "../_base_/models/vit-base-p16.py",
    "../_base_/datasets/folder_sounds.py",
    "../_base_/schedules/vit_finetune_100e.py",
    "../_base_/default_runtime.py",
]

num_classes = 50
model = dict(
    data_preprocessor=dict(num_classes=num_classes, mean=[114.75], std=[57.375], to_rgb=False),
    backbone=dict(
        in_channels=1,
        img_size=(128, 1024),
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat-sounds_vit-base-p16_8xb64-amp-coslr-300e_folder/epoch_300.pth",
        ),
    ),
    head=dict(num_classes=num_classes),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8)]),  # CutMix would join two pitches
)

train_pipeline = [*_base_.train_pipeline[:2], _base_.train_pipeline[-1]]  # without the mask
test_pipeline = [
    _base_.read_sound,
    dict(type="CenterCrop", crop_size=(1024, 128), auto_pad=True),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    dataset=dict(
        dataset_type="maskfeat.ImageDataset", data_root="data/sounds/train", with_label=True, pipeline=train_pipeline
    )
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="maskfeat.ImageDataset", data_root="data/sounds/test", extensions=_base_.endings, pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
