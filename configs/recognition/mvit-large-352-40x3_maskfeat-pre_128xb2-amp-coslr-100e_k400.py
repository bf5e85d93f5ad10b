"""Old name of ``mvit-large-352-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400``, kept for version 0.1."""

_base_ = "./mvit-large-352-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400.py"
