"""Helpers on the token grid, and linear layers."""

from .initial_values import is_pretrained, set_authors_biases
from .linear import (
    is_norm_and_linear,
    linear,
    norm_backward,
    norm_linear,
    product,
    runs_on_onednn,
    speed_up_linear,
    sum_of_products,
)
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
    "is_norm_and_linear",
    "is_pretrained",
    "linear",
    "norm_backward",
    "norm_linear",
    "product",
    "replace_masked",
    "runs_on_onednn",
    "set_authors_biases",
    "speed_up_linear",
    "sum_of_products",
    "token_size",
]
