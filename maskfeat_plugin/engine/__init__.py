"""What drives the training: optimizers, hooks and strategies."""

from .blocks import is_block, wrap_blocks
from .hooks import (
    CheckpointHook,
    KNNHook,
    MaskFeatVisualizationHook,
    MaskRatioHook,
    NonFiniteLossHook,
    TerminationHook,
    TrainingStateHook,
)
from .loops import EpochBasedTrainLoop, IterBasedTrainLoop
from .optim_wrapper_constructors import GroupedOptimWrapperConstructor, LayerDecayOptimWrapperConstructor
from .optim_wrappers import BFloat16OptimWrapper
from .resumption import choose_checkpoint
from .strategies import FSDPStrategy

__all__ = [
    "BFloat16OptimWrapper",
    "CheckpointHook",
    "EpochBasedTrainLoop",
    "FSDPStrategy",
    "GroupedOptimWrapperConstructor",
    "IterBasedTrainLoop",
    "KNNHook",
    "LayerDecayOptimWrapperConstructor",
    "MaskFeatVisualizationHook",
    "MaskRatioHook",
    "NonFiniteLossHook",
    "TerminationHook",
    "TrainingStateHook",
    "choose_checkpoint",
    "is_block",
    "wrap_blocks",
]
