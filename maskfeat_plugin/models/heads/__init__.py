"""Heads: they compute a loss from predicted and true features."""

from .classification_head import ClassificationHead
from .multi_target_head import MultiTargetHead
from .regression_head import RegressionHead

__all__ = ["ClassificationHead", "MultiTargetHead", "RegressionHead"]
