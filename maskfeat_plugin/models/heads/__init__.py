"""Heads: they compute a loss from predicted and true features."""

from .classification_head import ClassificationHead
from .mocov3_head import MoCoV3Head
from .multi_target_head import MultiTargetHead
from .regression_head import RegressionHead

__all__ = ["ClassificationHead", "MoCoV3Head", "MultiTargetHead", "RegressionHead"]
