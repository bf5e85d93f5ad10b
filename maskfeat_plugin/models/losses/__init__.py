"""Losses on masked tokens."""

from .masked_loss import MaskedLoss, mean_over_tokens

__all__ = ["MaskedLoss", "mean_over_tokens"]
