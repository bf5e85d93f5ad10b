"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the features of a ViT-B/16 of DINO.

The teacher's weights are the backbone alone, ``dino_vitbase16_pretrain.pth``, of DINO's own release; nothing fetches
it by itself.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/dino.py"]

model = _base_.dino
