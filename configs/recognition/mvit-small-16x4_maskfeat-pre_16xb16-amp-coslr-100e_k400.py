"""Fine-tuning of MViT-S on Kinetics-400, 100 epochs, on 16 GPUs of 16 videos, each augmented twice.

It starts from the weights of the pre-training config of the same model in ``work_dirs``. For another MaskFeat
checkpoint, also the authors', use ``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/mvit-small.py",
    "../_base_/datasets/kinetics400.py",
    "../_base_/schedules/mvit_finetune_100e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth",
        )
    )
)

# The batch size is a number of videos, and the model sees two clips of each video.
train_dataloader = dict(
    collate_fn=dict(type="repeat_pseudo_collate"),
    dataset=dict(dataset_type="maskfeat.RepeatAugDataset", num_repeats=2),
)
