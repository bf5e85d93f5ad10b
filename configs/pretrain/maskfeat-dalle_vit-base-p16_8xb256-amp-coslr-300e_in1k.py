"""MaskFeat pre-training of ViT-B/16 on ImageNet-1k that predicts the discrete tokens of DALL-E's dVAE.

The encoder's weights are mmpretrain's download ``mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth``. They are not
downloaded automatically. The recipe for this target is not in the release notes that we have. This config uses the
recipe for HOG.
"""

_base_ = ["./maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", "../_base_/targets/dalle.py"]

model = _base_.dalle
