"""MaskFeat pre-training of ViT-B/16 on a folder of sounds, on 8 GPUs of 64 spectrograms. All values are ours.

Set the folder with ``train_dataloader.dataset.data_root``.
"""

_base_ = [
    "../_base_/models/maskfeat_vit-base-p16.py",
    "../_base_/datasets/folder_sounds.py",
    "../_base_/schedules/vit_pretrain_300e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(mean=114.75, std=57.375, to_rgb=False),
    backbone=dict(in_channels=1, img_size=(128, 1024)),
    neck=dict(out_channels=36),  # 9 bins x 2 x 2 cells of one channel
)
