"""Metrics, features of labelled data, and k-NN classification."""

from maskfeat_plugin.evaluation.ava_metric import AVAMetric
from maskfeat_plugin.evaluation.masked_loss_metric import MaskedLossMetric

__all__ = ["AVAMetric", "MaskedLossMetric"]
