"""Heads: from predicted and true features to a loss."""

from .classification_head import ClassificationHead
from .multi_target_head import MultiTargetHead
from .regression_head import RegressionHead

__all__ = ["ClassificationHead", "MultiTargetHead", "RegressionHead"]
