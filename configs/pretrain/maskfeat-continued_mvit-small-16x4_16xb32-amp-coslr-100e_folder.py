"""MaskFeat pre-training of MViT-S on a folder of videos, continued from Kinetics weights, on 16 GPUs of 32 clips.

``model.init_cfg.checkpoint`` is a pre-trained or fine-tuned file of the authors, of mmaction2 or of torchvision. Set
the folder with ``train_dataloader.dataset.data_prefix.video``.
"""

_base_ = [
    "../_base_/models/maskfeat_mvit-small.py",
    "../_base_/datasets/folder_videos.py",
    "../_base_/schedules/continued_pretrain_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    init_cfg=dict(type="maskfeat.Pretrained", checkpoint="data/weights/k400_MVIT_S_MaskFeat_PT_epoch_00300.pyth")
)
train_dataloader = dict(batch_size=32, num_workers=8)
