"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of its own moving average.

As in data2vec, but with MaskFeat's masks and schedule; momentum and number of layers are a choice of this config.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = "./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.SelfTeacherGenerator", momentum=0.9998, num_layers=8),
    neck=dict(out_channels=768),
    head=dict(loss=dict(kind="smooth_l1")),
)
