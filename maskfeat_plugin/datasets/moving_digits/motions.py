"""Motions of MovingDigits: position, size and rotation of each digit in each frame.

Motions come in pairs. The single frames of both motions of a pair have the same distribution. Only the order of the
frames, or the identity of the digits from frame to frame, distinguishes the two motions:

* ``left``/``right``, ``up``/``down``, ``approach``/``recede`` and
  ``clockwise``/``counter_clockwise``: the second is the first played backwards;
* ``bounce``/``pass``: two digits of the same size meet in the middle of the clip. In every frame they have the same
  distance from the meeting point in both motions. After the meeting each digit returns to its own side, or continues
  to the other side. The starting sides are random, so a single frame does not show whether it is before or after the
  meeting.
"""

from typing import NamedTuple

import numpy as np

REVERSED = {
    "left": "right",
    "up": "down",
    "approach": "recede",
    "clockwise": "counter_clockwise",
}
"""Each motion that is drawn forwards, and its partner, the same motion played backwards."""

PAIR_MOTIONS = ("bounce", "pass")
"""Motions with exactly two digits."""

TURNING = ("clockwise", "counter_clockwise")
"""Motions that show digits at any rotation, where a 6 looks like a 9."""

MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "approach",
    "recede",
    "clockwise",
    "counter_clockwise",
    "bounce",
    "pass",
)
"""Names of all motions, in the default order of their labels."""

SHRINK = {1: 1.0, 2: 0.65, 3: 0.5}
"""Factor on the scale of digits by the number of digits in the frame."""

_FORWARD = {backward: forward for forward, backward in REVERSED.items()}
_PLACEMENTS = 30


class Trajectory(NamedTuple):
    """Poses of the n digits of a clip in T frames. Lengths are fractions of the frame's side.

    Attributes:
        centre: float64 (n, T, 2), x to the right and y down.
        scale: float64 (n, T), height of the digit's 20-pixel box.
        angle: float64 (n, T), degrees, counter-clockwise as seen on the screen.
    """

    centre: np.ndarray
    scale: np.ndarray
    angle: np.ndarray

    def backwards(self) -> "Trajectory":
        """Return the same poses in the opposite order of time."""
        return Trajectory(self.centre[:, ::-1], self.scale[:, ::-1], self.angle[:, ::-1])


def draw_trajectory(
    motion: str,
    num_digits: int,
    num_frames: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
    speed: float = 1.0,
) -> Trajectory:
    """Draw the poses of all digits of a clip.

    The same random numbers are drawn for every motion. So with the same state of ``rng``, the motions of a pair are
    exact reversals of each other (or, for ``bounce`` and ``pass``, equal up to the meeting).

    Args:
        motion: One of :data:`MOTIONS`.
        num_digits: Number of digits in the clip; 2 for the motions in :data:`PAIR_MOTIONS`.
        num_frames: Number of frames of the clip.
        scale: Smallest and largest height of a single digit, as a fraction of the frame's side.
        rng: Source of random numbers.
        speed: Factor on the distance of shifts and the angle of turns, and exponent of the growth.

    Returns:
        Trajectory: The poses. All digits perform the same motion by the same amount.

    Raises:
        ValueError: If the motion is unknown, or does not allow this number of digits.
    """
    if motion not in MOTIONS:
        raise ValueError(f"motion must be one of {', '.join(MOTIONS)}, got {motion!r}")
    if motion in PAIR_MOTIONS and num_digits != 2:
        raise ValueError(f"motion {motion!r} needs two digits, got {num_digits}")

    time = np.linspace(-0.5, 0.5, num_frames)
    scales = rng.uniform(*scale, size=num_digits) * SHRINK[num_digits]
    tilts = rng.uniform(-15, 15, size=num_digits)
    orientations = rng.uniform(-180, 180, size=num_digits)
    displacement = speed * rng.uniform(0.25, 0.45)
    growth = rng.uniform(1.4, 1.9) ** speed
    turn = speed * rng.uniform(60, 120)
    direction = rng.uniform(0, 2 * np.pi)
    meeting = 0.5 + rng.uniform(-0.1, 0.1, size=2)
    centres = _draw_places(scales, rng)

    if motion in PAIR_MOTIONS:
        scales = np.full(num_digits, scales[0])
        centres = np.tile(meeting, (num_digits, 1))

    centre = np.repeat(centres[:, None], num_frames, axis=1)  # (n, T, 2)
    size = np.repeat(scales[:, None], num_frames, axis=1)  # (n, T)
    angle = np.repeat(tilts[:, None], num_frames, axis=1)  # (n, T)

    forward = _FORWARD.get(motion, motion)
    if forward == "left":
        centre[..., 0] -= time * displacement
    elif forward == "up":
        centre[..., 1] -= time * displacement
    elif forward == "approach":
        size *= growth**time
    elif forward == "clockwise":
        angle = orientations[:, None] - time * turn
    else:
        # Both motions have the same path from the start to the meeting. Then `pass` continues and `bounce` returns.
        along = time if motion == "pass" else -np.abs(time)
        line = np.array([np.cos(direction), np.sin(direction)])
        offset = 1.6 * displacement * along[:, None] * line  # (T, 2)
        centre = centre + np.stack([offset, -offset])

    trajectory = Trajectory(centre, size, angle)
    return trajectory.backwards() if motion in _FORWARD else trajectory


def _draw_places(scales: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a position (n, 2) for each digit in the middle of the clip: the one with least overlap among many draws."""
    num_digits = len(scales)
    if num_digits == 1:
        return 0.5 + rng.uniform(-0.15, 0.15, size=(1, 2))
    places = 0.5 + rng.uniform(-0.28, 0.28, size=(_PLACEMENTS, num_digits, 2))
    first, second = np.triu_indices(num_digits, k=1)
    gap = np.abs(places[:, first] - places[:, second])  # (draws, pairs, 2)
    reach = (scales[first] + scales[second]) / 2  # (pairs,)
    overlap = np.clip(reach[:, None] - gap, 0, None).prod(axis=-1)  # (draws, pairs)
    return places[overlap.sum(axis=-1).argmin()]
