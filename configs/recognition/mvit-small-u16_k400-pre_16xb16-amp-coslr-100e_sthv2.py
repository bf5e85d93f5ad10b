"""Fine-tuning of MViT-S on Something-Something v2 from Kinetics-400 weights, on 16 GPUs of 16 videos.

It uses 16 frames spread over the video, no flip, and 1 x 3 views for testing. The authors have no recipe for MaskFeat
on this data set. Schedule, RandAugment, views, drop path and the head's dropout are from their recipe for supervised
MViTv2-S. The crops, the same as for Kinetics-400, and the initial weights are our choice. It starts from the weights of
the fine-tuning config on Kinetics-400 in ``work_dirs``. For other weights use
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = [
    "../_base_/models/mvit-small.py",
    "../_base_/datasets/sthv2.py",
    "../_base_/schedules/mvit_sthv2_100e.py",
    "../_base_/default_runtime.py",
]

num_classes = 174  # of the data set; "authors" marks the values of their supervised MViTv2-S
model = dict(
    data_preprocessor=dict(
        blending=dict(
            augments=[
                dict(type="MixupBlending", alpha=0.8, num_classes=num_classes),  # authors
                dict(type="CutmixBlending", alpha=1.0, num_classes=num_classes),  # authors
            ]
        )
    ),
    backbone=dict(
        drop_path_rate=0.4,  # authors
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth",
        ),
    ),
    cls_head=dict(num_classes=num_classes, dropout_ratio=0.5),  # authors
)
