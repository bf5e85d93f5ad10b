"""Old name of ``vit-large-p16_maskfeat-pre_16xb128-amp-coslr-50e_in1k``, kept for version 0.1."""

_base_ = "./vit-large-p16_maskfeat-pre_16xb128-amp-coslr-50e_in1k.py"
