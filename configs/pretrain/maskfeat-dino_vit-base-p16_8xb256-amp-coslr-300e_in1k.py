"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a ViT-B/16 of DINO.

The teacher's weights are the file ``dino_vitbase16_pretrain.pth`` of DINO's release, which holds only the backbone.
They are not downloaded automatically. The recipe for this target is not in the release notes that we have. This config
uses the recipe for HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/dino.py"]

model = _base_.dino
