"""Old name of ``mvit-large-u16_k400-pre_32xb8-amp-coslr-40e_sthv2``, kept for version 0.1."""

_base_ = "./mvit-large-u16_k400-pre_32xb8-amp-coslr-40e_sthv2.py"
