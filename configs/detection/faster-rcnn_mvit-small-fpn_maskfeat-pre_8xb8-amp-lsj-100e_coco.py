"""Fine-tuning of Faster R-CNN with MViT-S and a feature pyramid on COCO, on 8 GPUs of 8 images.

The four scales of the video model are the levels of mmdet's FPN. Starts from what the pre-training config of MViT-S on
clips leaves in ``work_dirs``, or from any other weights of it. The recipe is that of ViT-B here.
"""

_base_ = "./faster-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py"

model = dict(
    # as in the pre-training on clips
    data_preprocessor=dict(mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]),
    backbone=dict(
        _delete_=True,
        type="maskfeat.ImageMViT",
        arch="small",
        spatial_size=1024,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth",
        ),
    ),
    neck=dict(
        _delete_=True,
        type="FPN",
        in_channels=[192, 384, 768, 768],
        out_channels=256,
        num_outs=5,
        norm_cfg=dict(type="mmpretrain.LN2d"),
    ),
)
