"""MaskFeat pre-training of MViT-S on volumes, on 8 GPUs of 16 parts of 16 slices. All values are ours.

Set the folder with ``train_dataloader.dataset.data_prefix.video`` and the list of its files with
``train_dataloader.dataset.ann_file``.
"""

_base_ = [
    "../_base_/models/maskfeat_mvit-small.py",
    "../_base_/datasets/folder_volumes.py",
    "../_base_/schedules/mvit_pretrain_300e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(in_channels=1),
    neck=dict(out_channels=36),  # 9 bins x 2 x 2 cells of one channel
)
