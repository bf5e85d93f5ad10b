"""Losses on masked tokens, and a global loss on pooled tokens."""

from .masked_loss import MaskedLoss, mean_over_tokens
from .momentum_contrast import MomentumContrast

__all__ = ["MaskedLoss", "MomentumContrast", "mean_over_tokens"]
