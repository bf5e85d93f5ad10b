"""Hooks of training."""

from .knn_hook import KNNHook
from .mask_ratio_hook import MaskRatioHook
from .training_state_hook import TrainingStateHook

__all__ = ["KNNHook", "MaskRatioHook", "TrainingStateHook"]
