"""Fine-tuning of Mask R-CNN with ViT-L/16 on COCO: layer decay 0.8, drop path 0.4 as in ViTDet."""

_base_ = [
    "./mask-rcnn_vit-base-p16-sfp_maskfeat-pre_8xb8-amp-lsj-100e_coco.py",
    "../_base_/models/detector_vit-large-p16-sfp.py",
]

model = _base_.vit_large.model
train_dataloader = _base_.vit_large.train_dataloader
optim_wrapper = _base_.vit_large.optim_wrapper
