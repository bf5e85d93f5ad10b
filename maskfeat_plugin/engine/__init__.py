"""What drives the training: optimizers, hooks and strategies."""

from .blocks import is_block, wrap_blocks
from .hooks import KNNHook, MaskRatioHook, TrainingStateHook
from .optim_wrapper_constructors import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .optim_wrappers import BFloat16OptimWrapper
from .strategies import FSDPStrategy

__all__ = [
    "BFloat16OptimWrapper",
    "FSDPStrategy",
    "GroupedOptimWrapperConstructor",
    "KNNHook",
    "LayerDecayOptimWrapperConstructor",
    "MaskRatioHook",
    "TrainingStateHook",
    "is_block",
    "wrap_blocks",
]
