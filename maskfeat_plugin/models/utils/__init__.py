"""Helpers on the token grid."""

from .token_grid import (
    check_arch,
    check_divisible,
    expand_mask,
    frames_of_tokens,
    replace_masked,
    token_size,
)

__all__ = [
    "check_arch",
    "check_divisible",
    "expand_mask",
    "frames_of_tokens",
    "replace_masked",
    "token_size",
]
