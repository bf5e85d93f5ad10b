"""Fine-tuning of Mask R-CNN with MViT-S and a feature pyramid on COCO, on 8 GPUs of 8 images.

The four scales of the video model are the levels of mmdet's FPN. It starts from the weights of the pre-training config
of MViT-S on clips in ``work_dirs``, or from other weights of MViT-S. The recipe is the same as for ViT-B.
"""

_base_ = [
    "./mask-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py",
    "../_base_/models/detector_mvit-small-fpn.py",
]

model = _base_.mvit_small_fpn
