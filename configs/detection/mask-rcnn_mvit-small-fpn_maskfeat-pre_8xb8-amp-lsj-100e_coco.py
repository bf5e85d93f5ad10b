"""Fine-tuning of Mask R-CNN with MViT-S and a feature pyramid on COCO, on 8 GPUs of 8 images.

The four scales of the video model are the levels of mmdet's FPN. Starts from what the pre-training config of MViT-S on
clips leaves in ``work_dirs``, or from any other weights of it. The recipe is that of ViT-B here.
"""

_base_ = [
    "./mask-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py",
    "../_base_/models/detector_mvit-small-fpn.py",
]

model = _base_.mvit_small_fpn
