"""Old name of ``mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k700``, kept for version 0.1."""

_base_ = "./mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k700.py"
