"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the discrete tokens of DALL-E's dVAE.

The encoder's weights are mmpretrain's download ``mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth``. They are not
downloaded automatically. The recipe for this target is not in the release notes that we have. This config uses the
recipe for HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/dalle.py"]

model = _base_.dalle
