"""Losses on masked tokens."""

from .masked_loss import MaskedLoss
from .reduction import mean_over_tokens

__all__ = ["MaskedLoss", "mean_over_tokens"]
