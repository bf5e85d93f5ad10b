"""Helpers on the token grid."""

from .become import become
from .foreign import foreign_call, is_foreign
from .initial_values import is_pretrained, set_authors_biases
from .named import ONLY, by_name, unnamed
from .token_grid import (
    check_arch,
    check_divisible,
    check_mask,
    expand_mask,
    frames_of_tokens,
    replace_masked,
    stack_masks,
    token_size,
)
from .visible_tokens import TokenPlaces, VisibleUnits, hidden_places

__all__ = [
    "ONLY",
    "TokenPlaces",
    "VisibleUnits",
    "become",
    "by_name",
    "check_arch",
    "check_divisible",
    "check_mask",
    "expand_mask",
    "foreign_call",
    "frames_of_tokens",
    "hidden_places",
    "is_foreign",
    "is_pretrained",
    "replace_masked",
    "set_authors_biases",
    "stack_masks",
    "token_size",
    "unnamed",
]
