"""Helper functions of backbones and algorithms."""

from .become import become
from .calls import (
    ONLY,
    HeadWithBaseline,
    by_name,
    compute_loss,
    foreign_call,
    is_foreign,
    loss_settings,
    predict_features,
    takes_argument,
    unnamed,
)
from .drop_path import use_plain_drop_rates
from .initial_values import is_pretrained, set_authors_biases
from .token_grid import (
    check_arch,
    check_divisible,
    check_mask,
    expand_mask,
    frames_of_tokens,
    group_tokens,
    replace_masked,
    stack_masks,
    token_size,
)
from .visible_tokens import TokenPlaces, VisibleUnits, masked_places, mean_visible, select_tokens

__all__ = [
    "ONLY",
    "HeadWithBaseline",
    "TokenPlaces",
    "VisibleUnits",
    "become",
    "by_name",
    "check_arch",
    "check_divisible",
    "check_mask",
    "compute_loss",
    "expand_mask",
    "foreign_call",
    "frames_of_tokens",
    "group_tokens",
    "masked_places",
    "mean_visible",
    "is_foreign",
    "is_pretrained",
    "loss_settings",
    "predict_features",
    "replace_masked",
    "select_tokens",
    "set_authors_biases",
    "stack_masks",
    "takes_argument",
    "token_size",
    "unnamed",
    "use_plain_drop_rates",
]
