"""Rendering of the frames of a MovingDigits clip."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .backgrounds import draw_background
from .config import MovingDigitsConfig
from .motions import Trajectory, draw_trajectory

INK = 0.2
"""Share of its colour that a digit must give to a pixel so that the pixel counts as part of the digit."""

_GLYPH_SIDE = 20  # MNIST fits a digit into 20 x 20 of its 28 x 28 pixels
_CONTRAST = 0.45  # least distance in one channel between a digit and the mean background
_DISTINCT = 0.3  # least distance in one channel between two digits
_LUMA = np.array([0.299, 0.587, 0.114])


class RenderedClip(NamedTuple):
    """Clip of T frames and n digits as drawn, before any encoding.

    Attributes:
        frames: uint8 (T, size, size, 3), RGB.
        boxes: int64 (T, n, 4), pixels (x1, y1, x2, y2), x2 and y2 exclusive: the smallest box around the digit's pixels
            within the frame, whether another digit covers them or not; zeros if there are none.
        areas: int64 (T, n), number of these pixels.
        visible: float64 (T, n), share of the digit's ink that is within the frame and not covered.
        light: bool (n,), whether the digit is brighter than the mean background.
        owners: int8 (T, size, size), the number of the digit that each pixel shows, -1 for the background.
    """

    frames: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    visible: np.ndarray
    light: np.ndarray
    owners: np.ndarray


def render_clip(
    glyphs: np.ndarray,
    motion: str,
    config: MovingDigitsConfig,
    rng: np.random.Generator,
    photos: Sequence[np.ndarray] = (),
) -> RenderedClip:
    """Draw a clip.

    With the same state of ``rng``, the two motions of a pair have the same positions, sizes, colours and background,
    see :func:`~maskfeat_plugin.datasets.moving_digits.motions.draw_trajectory`.

    Args:
        glyphs: float32 (n, 28, 28), the ink of the digits within 0 and 1. Later digits cover earlier ones.
        motion: Name of the motion.
        config: Settings. ``size``, ``num_frames``, ``scale``, ``speed`` and ``background`` are used.
        rng: Source of random numbers.
        photos: Photographs to crop the background from, for ``background='photo'``.

    Returns:
        RenderedClip: The frames, the boxes, and the other data for the labels.
    """
    trajectory = draw_trajectory(motion, len(glyphs), config.num_frames, config.scale, rng, config.speed)
    background = draw_background(config.background, config.size, rng, photos)
    colours = _draw_colours(len(glyphs), background, rng)

    shape = (config.num_frames, len(glyphs))
    frames = np.empty((config.num_frames, config.size, config.size, 3), np.uint8)
    boxes = np.zeros((*shape, 4), np.int64)
    areas = np.zeros(shape, np.int64)
    visible = np.zeros(shape)
    owners = np.full(frames.shape[:3], -1, np.int8)
    for t in range(config.num_frames):
        inks = np.stack([_place(glyph, trajectory, k, t, config.size) for k, glyph in enumerate(glyphs)])
        frames[t] = _paint(background, inks, colours)
        for k, ink in enumerate(inks):
            boxes[t, k], areas[t, k] = _box(ink)
            # The total ink of a digit grows with the square of its size.
            total = glyphs[k].sum() * (trajectory.scale[k, t] * config.size / _GLYPH_SIDE) ** 2
            uncovered = ink * (1 - inks[k + 1 :]).prod(axis=0)
            visible[t, k] = min(uncovered.sum() / total, 1.0)
            owners[t][ink >= INK] = k
    light = colours @ _LUMA >= background.mean(axis=(0, 1)) @ _LUMA
    return RenderedClip(frames, boxes, areas, visible, light, owners)


def _draw_colours(num_digits: int, background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw colours (n, 3) that differ clearly from the mean background and from each other."""
    taken = [(background.mean(axis=(0, 1)), _CONTRAST)]
    colours = []
    for _ in range(num_digits):
        candidates = rng.uniform(0, 1, size=(256, 3))
        margins = [np.abs(candidates - colour).max(axis=1) - least for colour, least in taken]
        margin = np.min(margins, axis=0)  # (256,)
        # The first candidate with enough contrast. If there is none, the one with the most.
        chosen = candidates[np.argmax(margin >= 0) if (margin >= 0).any() else margin.argmax()]
        colours.append(chosen)
        taken.append((chosen, _DISTINCT))
    return np.stack(colours)


def _place(glyph: np.ndarray, trajectory: Trajectory, digit: int, frame: int, size: int) -> np.ndarray:
    """Draw the ink of one digit into an empty frame: float32 (size, size) within 0 and 1."""
    zoom = trajectory.scale[digit, frame] * size / _GLYPH_SIDE
    # Linear interpolation loses strokes of digits that are drawn smaller than their images. Such digits are drawn
    # at twice the size and averaged.
    factor = 2 if zoom < 1 else 1
    middle = (glyph.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), trajectory.angle[digit, frame], zoom * factor)
    matrix[:, 2] += trajectory.centre[digit, frame] * size * factor - 0.5 - middle
    side = size * factor
    ink = cv2.warpAffine(glyph, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if factor > 1:
        ink = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA)
    return ink


def _paint(background: np.ndarray, inks: np.ndarray, colours: np.ndarray) -> np.ndarray:
    frame = background
    for ink, colour in zip(inks, colours, strict=True):
        share = ink[..., None]  # (H, W, 1)
        frame = frame * (1 - share) + colour.astype(np.float32) * share
    return (frame * 255).round().clip(0, 255).astype(np.uint8)


def _box(ink: np.ndarray) -> tuple[tuple[int, int, int, int], int]:
    mask = ink >= INK
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0), 0
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), int(mask.sum())
