"""Helpers on the token grid, and linear layers."""

from .fast_path import LINEAR, FastPathMode, is_watched, may_bypass
from .foreign import foreign_call, is_foreign
from .initial_values import is_pretrained, set_authors_biases
from .linear import (
    apply_layer,
    linear,
    may_bypass_norm,
    norm_backward,
    norm_linear,
    product,
    runs_on_onednn,
    sum_of_products,
)
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
    "LINEAR",
    "FastPathMode",
    "TokenPlaces",
    "VisibleUnits",
    "apply_layer",
    "check_arch",
    "check_divisible",
    "check_mask",
    "expand_mask",
    "foreign_call",
    "frames_of_tokens",
    "hidden_places",
    "is_foreign",
    "is_pretrained",
    "is_watched",
    "linear",
    "may_bypass",
    "may_bypass_norm",
    "norm_backward",
    "norm_linear",
    "product",
    "replace_masked",
    "runs_on_onednn",
    "set_authors_biases",
    "stack_masks",
    "sum_of_products",
    "token_size",
]
