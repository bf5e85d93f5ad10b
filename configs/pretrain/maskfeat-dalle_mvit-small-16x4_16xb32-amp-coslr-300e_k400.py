"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the discrete tokens of DALL-E's dVAE.

The encoder's weights are a file of mmpretrain's, ``mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth`` of its
downloads; nothing fetches it by itself.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = ["./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", "../_base_/targets/dalle.py"]

model = _base_.dalle
