"""Settings and class names of the MovingDigits data set."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from .backgrounds import BACKGROUNDS
from .motions import MOTIONS, PAIR_MOTIONS

DIGITS = tuple(str(digit) for digit in range(10))
"""Names of the image classes. The label of a digit is its index here."""

SPLITS = ("train", "val", "test")
"""Names of the splits, in the order of their random streams."""

NUM_SUBSETS = 3
"""Number of labelled subsets of each size."""

CLIP_SECONDS = 2
"""Length of every clip in seconds, with any number of frames."""

KEY_SECOND = 1
"""Time in seconds of the key frame of the AVA-style labels: the middle of the clip."""


@dataclass(frozen=True)
class MovingDigitsConfig:
    """Settings of the MovingDigits data set.

    A clip shows one to three digits that all perform the same motion. A clip of the motions ``bounce`` and ``pass``
    always shows two. If ``num_digits`` allows several numbers, 60 % of the clips have the smallest one, and the other
    numbers share the remaining clips evenly.

    Args:
        seed: Seed of all random choices. The same settings give the same bytes.
        size: Side of the square frames in pixels; even, at least 32.
        num_frames: Number of frames of a clip; even, at least 8. Every clip lasts two seconds, so the frame rate is
            half of this number (see :attr:`fps`).
        num_train: Number of clips for training.
        num_val: Number of clips for validation.
        num_test: Number of clips for testing.
        num_digits: Smallest and largest number of digits in a clip, within (1, 3).
        background: ``plain`` (one colour), ``dark`` (one dark colour, so that digits are lighter than it),
            ``gradient`` (a linear ramp of colour) or ``photo`` (crops of two photographs; the splits crop from
            different parts of them).
        motions: Names of the motions, a subset of :data:`MOTIONS` in any order. The label of a motion is its index
            here.
        scale: Smallest and largest height of a single digit, as a fraction of the frame's side. Two digits in a clip
            are 0.65 times as large, three digits 0.5 times.
        speed: Factor on the amount of motion in a clip. At 1, digits shift by 0.25 to 0.45 of the frame's side, grow or
            shrink 1.4 to 1.9 times, or turn by 60 to 120 degrees. At 2, they shift and turn twice as far, and grow or
            shrink by the square of the factor.
        frames_per_clip: Number of frames that are saved as images from each clip whose digits stay upright.
        labelled: Sizes of the class-balanced subsets of labelled training samples. There are three subsets of each
            size.

    Raises:
        ValueError: If a setting is out of its range; the message names it.
    """

    seed: int = 0
    size: int = 64
    num_frames: int = 16
    num_train: int = 3000
    num_val: int = 400
    num_test: int = 800
    num_digits: tuple[int, int] = (1, 3)
    background: str = "gradient"
    motions: tuple[str, ...] = MOTIONS
    scale: tuple[float, float] = (0.45, 0.95)
    speed: float = 1.0
    frames_per_clip: int = 2
    labelled: tuple[int, ...] = (200, 1000)

    def __post_init__(self) -> None:
        # JSON and the command line give lists. Tuples keep the config hashable.
        for name in ("num_digits", "motions", "scale", "labelled"):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)):
                raise ValueError(f"MovingDigits: {name} must be a tuple, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        for name in ("seed", "size", "num_frames", "num_train", "num_val", "num_test"):
            _require_int(name, getattr(self, name))
        _require_int("frames_per_clip", self.frames_per_clip)
        for count in self.num_digits:
            _require_int("num_digits", count)
        if not all(isinstance(edge, (int, float)) for edge in self.scale):
            raise ValueError(f"MovingDigits: scale must be two numbers, got {self.scale}")
        self._check_ranges()
        self._check_motions()
        self._check_labelled()

    @property
    def fps(self) -> int:
        """Frames per second of the videos."""
        return self.num_frames // CLIP_SECONDS

    @property
    def key_frame(self) -> int:
        """Index of the key frame of the AVA-style labels, counted from 0."""
        return KEY_SECOND * self.fps

    def num_clips(self, split: str) -> int:
        """Return the number of clips of a split."""
        return getattr(self, f"num_{split}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "MovingDigitsConfig":
        """Build the settings from the values of :meth:`to_dict`.

        Raises:
            ValueError: If a name is unknown or a value is out of its range.
        """
        unknown = set(settings) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"MovingDigits: unknown settings {sorted(unknown)}")
        return cls(**settings)

    def _check_ranges(self) -> None:
        if self.seed < 0:
            raise ValueError(f"MovingDigits: seed must be at least 0, got {self.seed}")
        for name, least in (("size", 32), ("num_frames", 8)):
            value = getattr(self, name)
            if value < least or value % 2:
                raise ValueError(f"MovingDigits: {name} must be even and at least {least}, got {value}")
        for name in ("num_train", "num_val", "num_test", "frames_per_clip"):
            if getattr(self, name) < 1:
                raise ValueError(f"MovingDigits: {name} must be at least 1, got {getattr(self, name)}")
        if self.frames_per_clip > self.num_frames:
            raise ValueError(
                f"MovingDigits: frames_per_clip must be at most num_frames ({self.num_frames}), "
                f"got {self.frames_per_clip}"
            )
        if self.background not in BACKGROUNDS:
            raise ValueError(
                f"MovingDigits: background must be one of {', '.join(BACKGROUNDS)}, got {self.background!r}"
            )
        if len(self.scale) != 2 or not 0.1 <= self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"MovingDigits: scale must be (smallest, largest) within 0.1 and 1, got {self.scale}")
        if not isinstance(self.speed, (int, float)) or not 0.5 <= self.speed <= 2:
            raise ValueError(f"MovingDigits: speed must be within 0.5 and 2, got {self.speed!r}")
        if len(self.num_digits) != 2 or not 1 <= self.num_digits[0] <= self.num_digits[1] <= 3:
            raise ValueError(f"MovingDigits: num_digits must be (fewest, most) within 1 and 3, got {self.num_digits}")

    def _check_motions(self) -> None:
        unknown = [motion for motion in self.motions if motion not in MOTIONS]
        if unknown or not self.motions or len(set(self.motions)) < len(self.motions):
            raise ValueError(
                f"MovingDigits: motions must be different names out of {', '.join(MOTIONS)}, got {self.motions}"
            )
        fewest, most = self.num_digits
        if any(motion in PAIR_MOTIONS for motion in self.motions) and not fewest <= 2 <= most:
            raise ValueError(
                f"MovingDigits: {' and '.join(PAIR_MOTIONS)} need two digits, which num_digits "
                f"{self.num_digits} excludes. Remove them from motions or change num_digits"
            )

    def _check_labelled(self) -> None:
        if len(set(self.labelled)) < len(self.labelled):
            raise ValueError(f"MovingDigits: labelled names a size twice: {self.labelled}")
        for count in self.labelled:
            _require_int("labelled", count)
            if not 1 <= count <= self.num_train:
                raise ValueError(
                    f"MovingDigits: labelled must lie within 1 and num_train ({self.num_train}), got {count}"
                )


def _require_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"MovingDigits: {name} must be a whole number, got {value!r}")
