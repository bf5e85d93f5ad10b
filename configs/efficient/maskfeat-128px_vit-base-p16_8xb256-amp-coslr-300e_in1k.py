"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k at 128 pixels, 8 x 8 tokens, on 8 GPUs of 256 images.

Pre-training at 128 pixels with HOG is FastMIM's idea. Fine-tune at 224 pixels with
``classification/vit-base-p16_maskfeat-128px-pre_8xb256-amp-coslr-100e_in1k.py``. Masks and schedule are MaskFeat's for
224 pixels. Nobody has trained this config yet.
"""

_base_ = "../pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(backbone=dict(img_size=128))
changes = dict(RandomResizedCrop=dict(scale=128), BlockMaskGenerator=dict(token_grid=(8, 8)))
train_pipeline = [dict(step, **changes.get(step.type.split(".")[-1], {})) for step in _base_.train_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
