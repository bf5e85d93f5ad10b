"""Metrics."""

from .ava_metric import AVAMetric
from .masked_loss_metric import MaskedLossMetric

__all__ = ["AVAMetric", "MaskedLossMetric"]
