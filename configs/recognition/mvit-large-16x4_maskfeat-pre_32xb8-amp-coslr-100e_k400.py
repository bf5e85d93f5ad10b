"""Old name of ``mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400``, kept for version 0.1."""

_base_ = "./mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400.py"
