"""Backgrounds of MovingDigits: plain colours, dark colours, gradients and crops of photographs."""

from collections.abc import Sequence

import cv2
import numpy as np

BACKGROUNDS = ("plain", "dark", "gradient", "photo")
"""Names of the backgrounds."""

_PHOTO_PARTS = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
"""Part of a photograph's columns that each split crops from, as fractions of its width."""


def photo_part(photo: np.ndarray, split: str) -> np.ndarray:
    """Return the columns of a photograph that belong to a split. The parts of the splits are disjoint.

    Args:
        photo: (H, W, 3) uint8 array.
        split: ``train``, ``val`` or ``test``.

    Returns:
        np.ndarray: View of shape (H, W', 3).
    """
    start, stop = (round(edge * photo.shape[1]) for edge in _PHOTO_PARTS[split])
    return photo[:, start:stop]


def draw_background(kind: str, size: int, rng: np.random.Generator, photos: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Draw a background.

    Args:
        kind: One of :data:`BACKGROUNDS`.
        size: Side in pixels.
        rng: Source of random numbers.
        photos: uint8 (H, W, 3) RGB photographs to crop from; used for ``photo`` only.

    Returns:
        np.ndarray: float32 (size, size, 3), RGB within 0 and 1.

    Raises:
        ValueError: If the kind is unknown, or if ``photo`` is requested without photographs.
    """
    if kind in ("plain", "dark"):
        colour = rng.uniform(0.1, 0.9, size=3) if kind == "plain" else rng.uniform(0, 0.4, size=3)
        return np.broadcast_to(colour.astype(np.float32), (size, size, 3))
    if kind == "gradient":
        return _draw_gradient(size, rng)
    if kind == "photo":
        if not photos:
            raise ValueError("background 'photo' needs at least one photograph to crop from")
        return _draw_crop(photos[int(rng.integers(len(photos)))], size, rng)
    raise ValueError(f"background must be one of {', '.join(BACKGROUNDS)}, got {kind!r}")


def _draw_gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    direction = rng.uniform(0, 2 * np.pi)
    contrast = rng.uniform(0.3, 0.8, size=3) * rng.choice([-1, 1])
    middle = rng.uniform(0.3, 0.7, size=3)
    place = np.arange(size) / size - 0.5
    ramp = np.cos(direction) * place[None, :] + np.sin(direction) * place[:, None]  # (H, W)
    return (ramp[..., None] * contrast + middle).clip(0, 1).astype(np.float32)


def _draw_crop(photo: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    shorter = min(photo.shape[:2])
    side = round(rng.uniform(0.3, 0.9) * shorter)
    top = rng.integers(photo.shape[0] - side + 1)
    left = rng.integers(photo.shape[1] - side + 1)
    crop = photo[top : top + side, left : left + side]
    if rng.integers(2):
        crop = crop[:, ::-1]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=method)
    return crop.astype(np.float32) / 255
