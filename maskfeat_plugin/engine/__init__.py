"""Components that control training: optimizers, hooks, loops and strategies."""

from maskfeat_plugin.engine.blocks import is_block
from maskfeat_plugin.engine.hooks import (
    CheckpointHook,
    KNNHook,
    MaskFeatVisualizationHook,
    MaskRatioHook,
    NonFiniteLossHook,
    RuntimeInfoHook,
    TerminationHook,
    TrainingStateHook,
)
from maskfeat_plugin.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from maskfeat_plugin.engine.optim_wrapper_constructors import (
    GroupedOptimWrapperConstructor,
    LayerDecayOptimWrapperConstructor,
)
from maskfeat_plugin.engine.optim_wrappers import BFloat16OptimWrapper
from maskfeat_plugin.engine.resumption import choose_checkpoint
from maskfeat_plugin.engine.strategies import FSDPStrategy

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
    "RuntimeInfoHook",
    "TerminationHook",
    "TrainingStateHook",
    "choose_checkpoint",
    "is_block",
]
