"""MovingDigits: clips of moving MNIST digits with labels for five tasks, built without a download."""

from .backgrounds import BACKGROUNDS
from .build import build_moving_digits, read_metadata
from .config import DIGITS, SPLITS, MovingDigitsConfig
from .labels import ATTRIBUTES, action_names
from .motions import MOTIONS, PAIR_MOTIONS, TURNING
from .render import RenderedClip, render_clip

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "DIGITS",
    "MOTIONS",
    "PAIR_MOTIONS",
    "SPLITS",
    "TURNING",
    "MovingDigitsConfig",
    "RenderedClip",
    "action_names",
    "build_moving_digits",
    "read_metadata",
    "render_clip",
]
