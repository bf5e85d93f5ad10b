"""Helpers on the token grid."""

from .token_grid import (
    check_arch,
    check_divisible,
    check_mask,
    expand_mask,
    frames_of_tokens,
    replace_masked,
    token_size,
)
from .visible_tokens import TokenPlaces, VisibleUnits, hidden_places

__all__ = [
    "TokenPlaces",
    "VisibleUnits",
    "check_arch",
    "check_divisible",
    "check_mask",
    "expand_mask",
    "frames_of_tokens",
    "hidden_places",
    "replace_masked",
    "token_size",
]
