"""Hooks of training."""

from .knn_hook import KNNHook
from .mask_ratio_hook import MaskRatioHook

__all__ = ["KNNHook", "MaskRatioHook"]
