"""Hooks for training."""

from .checkpoint_hook import CheckpointHook
from .knn_hook import KNNHook
from .mask_ratio_hook import MaskRatioHook
from .non_finite_loss_hook import NonFiniteLossHook
from .runtime_info_hook import RuntimeInfoHook
from .termination_hook import TerminationHook
from .training_state_hook import TrainingStateHook
from .visualization_hook import MaskFeatVisualizationHook

__all__ = [
    "CheckpointHook",
    "KNNHook",
    "MaskFeatVisualizationHook",
    "MaskRatioHook",
    "NonFiniteLossHook",
    "RuntimeInfoHook",
    "TerminationHook",
    "TrainingStateHook",
]
