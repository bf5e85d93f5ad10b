"""MaskFeat pre-training of ViT-B/16 on a folder of images, continued from ImageNet weights, on 8 GPUs of 256 images.

``model.init_cfg.checkpoint`` is a file of timm, of MAE, of the authors or of any other format that docs/checkpoints.md
lists. Set the folder with ``train_dataloader.dataset.data_root``.
"""

_base_ = [
    "../_base_/models/maskfeat_vit-base-p16.py",
    "../_base_/datasets/folder_images.py",
    "../_base_/schedules/continued_pretrain_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(init_cfg=dict(type="maskfeat.Pretrained", checkpoint="data/weights/vit_base_patch16_224.safetensors"))
train_dataloader = dict(batch_size=256, num_workers=8)
auto_scale_lr = dict(base_batch_size=2048)
