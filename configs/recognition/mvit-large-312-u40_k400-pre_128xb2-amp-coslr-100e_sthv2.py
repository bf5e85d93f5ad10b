"""Old name of ``mvit-large-312-u40_k400-pre_128xb2-amp-coslr-40e_sthv2``, kept for version 0.1."""

_base_ = "./mvit-large-312-u40_k400-pre_128xb2-amp-coslr-40e_sthv2.py"
