"""Fine-tuning of ViT-B/16 on ImageNet-1k at 224 pixels, from weights that were pre-trained at 128 pixels.

The positions of 8 x 8 tokens are resized to 14 x 14 when the weights are loaded. The recipe is the same as for weights
of 224 pixels.
"""

_base_ = "./vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py"

model = dict(
    backbone=dict(
        init_cfg=dict(checkpoint="work_dirs/maskfeat-128px_vit-base-p16_8xb256-amp-coslr-300e_in1k/epoch_300.pth")
    )
)
