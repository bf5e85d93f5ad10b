"""Necks: from tokens to predicted features."""

from .regression_neck import RegressionNeck

__all__ = ["RegressionNeck"]
