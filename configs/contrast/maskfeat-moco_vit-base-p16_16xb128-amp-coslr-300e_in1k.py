"""MaskFeat and MoCo v3 in one pre-training of ViT-B/16 on ImageNet-1k, on 16 GPUs of 128 images with two views each.

mmpretrain's MoCo v3 has the same views, projector, predictor and momentum. Masks, target and schedule are MaskFeat's.
The weight of the contrast is our choice. Nobody has trained this config yet.
"""

_base_ = [
    "../pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
    "../_base_/global_losses/moco_v3.py",
    "../_base_/global_losses/moco_v3_views.py",
]

model = _base_.moco_v3
# A view of MoCo v3, with the probabilities of blurring and of inverting bright pixels
views = [
    [
        dict(type="RandomResizedCrop", scale=224, crop_ratio_range=(0.2, 1.0), backend="pillow"),
        _base_.colour_jitter,
        _base_.grayscale,
        dict(type="GaussianBlur", magnitude_range=(0.1, 2.0), magnitude_std="inf", prob=blur),
        dict(type="Solarize", thr=128, prob=solarize),
        dict(type="RandomFlip", prob=0.5),
    ]
    for blur, solarize in ((1.0, 0.0), (0.1, 0.2))
]
train_pipeline = [
    dict(type="maskfeat.LoadWholeImage"),
    dict(type="maskfeat.MultiView", num_views=[1, 1], transforms=views),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=(14, 14), mask_ratio=0.4),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
