"""Fine-tuning of UPerNet with MViT-S on ADE20K, 160,000 steps, on 8 GPUs of 2 images.

The four scales of the video model are the maps of UPerNet. The recipe is the same as for ViT-B. It starts from the
weights of the pre-training config of MViT-S on clips in ``work_dirs``, or from other weights of MViT-S.
"""

_base_ = "./upernet_vit-base-p16_maskfeat-pre_8xb2-amp-512x512-160k_ade20k.py"

model = dict(
    # the same as in the pre-training on clips
    data_preprocessor=dict(mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]),
    backbone=dict(
        _delete_=True,
        type="maskfeat.ImageMViT",
        arch="small",
        spatial_size=512,
        drop_path_rate=0.1,
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400/epoch_300.pth",
        ),
    ),
    neck=None,
    decode_head=dict(in_channels=[192, 384, 768, 768], channels=512),
)
