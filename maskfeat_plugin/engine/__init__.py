"""What drives the training: optimizer constructors and hooks."""

from .hooks import KNNHook, MaskRatioHook, TrainingStateHook
from .optim_wrapper_constructors import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor

__all__ = [
    "GroupedOptimWrapperConstructor",
    "KNNHook",
    "LayerDecayOptimWrapperConstructor",
    "MaskRatioHook",
    "TrainingStateHook",
]
