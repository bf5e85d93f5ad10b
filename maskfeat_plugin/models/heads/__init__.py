"""Heads: from predicted and true features to a loss."""

from .regression_head import RegressionHead

__all__ = ["RegressionHead"]
