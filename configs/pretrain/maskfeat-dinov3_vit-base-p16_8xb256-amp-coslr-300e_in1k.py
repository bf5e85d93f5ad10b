"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of
a ViT-B/16 of DINOv3 (Siméoni et al., 2025).

The teacher is timm's model, and its weights are a file that is not downloaded automatically. The paper has no recipe
for this target. This config uses the recipe for HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/foundation_models.py"]

model = _base_.dinov3
