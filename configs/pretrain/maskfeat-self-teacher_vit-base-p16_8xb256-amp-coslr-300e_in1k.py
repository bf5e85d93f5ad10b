"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of its own moving average.

The target is the one of data2vec, with MaskFeat's masks and schedule. Momentum and number of layers are our choice. The
recipe for this target is not in the release notes that we have. This config uses the recipe for HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.SelfTeacherGenerator", momentum=0.9998, num_layers=8),
    neck=dict(out_channels=768),
    head=dict(loss=dict(kind="smooth_l1")),
)
