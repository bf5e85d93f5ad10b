"""Fine-tuning of MViT-L on Something-Something v2 from Kinetics-400 weights, 40 epochs, on 32 GPUs of 8 videos.

Schedule, drop path and the lack of mixing are from the authors' recipe for supervised MViTv2-L with 40 frames at 312
pixels. Using 16 frames at 224 pixels is our choice. It starts from the weights of the fine-tuning config on
Kinetics-400 in ``work_dirs``.
"""

_base_ = [
    "../_base_/models/mvit-small.py",
    "../_base_/datasets/sthv2.py",
    "../_base_/schedules/mvit_sthv2_40e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    data_preprocessor=dict(blending=None),
    backbone=dict(
        arch="large",
        drop_path_rate=0.75,  # authors
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400/epoch_75.pth",
        ),
    ),
    # authors: the channels of MViT-L, the classes of the data set, their dropout
    cls_head=dict(in_channels=1152, num_classes=174, dropout_ratio=0.5),
)

train_dataloader = dict(batch_size=8)  # ours
