"""Panels of one sample: original, masked input, predicted HOG, true HOG."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from .hog_image import assemble_hog, draw_hog, grid_mask, to_numpy

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

MASK_GREY = 128
PREDICTED_COLOR = (255, 196, 64)
CONTEXT_COLOR = (130, 130, 130)
TRUE_COLOR = (255, 255, 255)


def make_panel_frames(
    inputs: ArrayLike | torch.Tensor,
    mask: ArrayLike | torch.Tensor,
    pred: ArrayLike | torch.Tensor,
    target: ArrayLike | torch.Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    nbins: int = 9,
    cell_size: int = 8,
    min_side: int = 224,
    min_cell_pixels: int = 12,
) -> dict[str, np.ndarray]:
    """Picture what the model saw, what it predicted and what was there, step by step in time.

    Of a clip, the first frame of each step of the token grid is shown: the one that the target is
    made of. Small inputs are enlarged by a whole factor, pixel by pixel; strokes are drawn at the
    enlarged size.

    Args:
        inputs (ArrayLike | Tensor): RGB image (3, H, W) or clip (3, T, H, W): uint8, or as the data
            preprocessor normalised it.
        mask (ArrayLike | Tensor): bool (T', H', W') or (H', W'), True where masked.
        pred (ArrayLike | Tensor): Predicted HOG (M, D) of the masked tokens.
        target (ArrayLike | Tensor): True HOG (M, D) of the masked tokens, or (T'*H'*W', D) of all
            tokens (``target_generator`` with a mask of ones); the latter also shows what was
            visible.
        mean (Sequence[float]): Mean of the normalisation, unused for uint8. Defaults to ImageNet's.
        std (Sequence[float]): Its standard deviation, unused for uint8. Defaults to ImageNet's.
        nbins (int): Orientation bins of the target generator. Defaults to 9.
        cell_size (int): Cell size of the target generator in pixels. Defaults to 8.
        min_side (int): Least side of a picture in pixels. Defaults to 224.
        min_cell_pixels (int): Least side of a drawn HOG cell in pixels. Defaults to 12.

    Returns:
        dict[str, np.ndarray]: RGB frames, uint8 (T', height, width, 3), T' = 1 for an image:

        - "original": the input.
        - "masked input": the same with masked tokens grey.
        - "predicted HOG": predictions in amber at the masked tokens, the true HOG of the visible
          ones in grey.
        - "true HOG": in white.

    Raises:
        ValueError: If shapes, grid and cells do not fit each other.
    """
    mask = grid_mask(mask)
    frames = _input_frames(inputs, mask, mean, std)  # (T', H, W, 3)
    _, height, width = mask.shape
    token = frames.shape[1] // height, frames.shape[2] // width
    if token[0] % cell_size or token[1] % cell_size:
        raise ValueError(
            f"cell_size={cell_size} does not divide the token of {token[0]} x {token[1]} pixels; "
            "it has to be that of the target_generator."
        )
    cells = token[0] // cell_size, token[1] // cell_size

    target = to_numpy(target)
    shown = np.ones_like(mask) if len(target) == mask.size else mask
    true_hog = assemble_hog(target, shown, nbins, cells)  # (T', 3, nbins, rows, cols)
    pred_hog = assemble_hog(pred, mask, nbins, cells)

    side = min(frames.shape[1:3])
    scale = max(1, math.ceil(min_side / side), math.ceil(min_cell_pixels / cell_size))
    original = _enlarge(frames, scale, scale)
    masked = _enlarge(mask, token[0] * scale, token[1] * scale)[..., None]  # (T', h, w, 1)

    def draw(hog: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
        return np.stack([draw_hog(h, cell_size * scale, color=color) for h in hog])

    predicted = np.where(masked, draw(pred_hog, PREDICTED_COLOR), draw(true_hog, CONTEXT_COLOR))
    return {
        "original": original,
        "masked input": np.where(masked, np.uint8(MASK_GREY), original),
        "predicted HOG": predicted,
        "true HOG": draw(true_hog, TRUE_COLOR),
    }


def make_panel(
    inputs: ArrayLike | torch.Tensor,
    mask: ArrayLike | torch.Tensor,
    pred: ArrayLike | torch.Tensor,
    target: ArrayLike | torch.Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    max_frames: int = 4,
    **kwargs,
) -> dict[str, np.ndarray]:
    """Picture a sample: one image of each kind, or one strip of frames of each kind for a clip.

    Args:
        inputs, mask, pred, target, mean, std: as in :func:`make_panel_frames`.
        max_frames (int): At most so many frames, evenly spaced, are in a strip. Defaults to 4.
        **kwargs: ``nbins``, ``cell_size``, ``min_side``, ``min_cell_pixels`` of
            :func:`make_panel_frames`.

    Returns:
        dict[str, np.ndarray]: RGB pictures, uint8 (height, width, 3), under the keys of
        :func:`make_panel_frames`.

    Raises:
        ValueError: If shapes, grid and cells do not fit each other.
    """
    frames = make_panel_frames(inputs, mask, pred, target, mean, std, **kwargs)
    return {name: strip(pictures, max_frames) for name, pictures in frames.items()}


def strip(frames: np.ndarray, max_frames: int = 4, gap: int = 6) -> np.ndarray:
    """Put frames side by side.

    Args:
        frames (np.ndarray): uint8 (T, H, W, 3).
        max_frames (int): At most so many, evenly spaced. Defaults to 4.
        gap (int): White pixels between two frames. Defaults to 6.

    Returns:
        np.ndarray: uint8 (H, width, 3).
    """
    count = min(len(frames), max_frames)
    picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
    border = np.full((frames.shape[1], gap, 3), 255, np.uint8)  # unlike a masked token
    parts = [frames[picked[0]]]
    for i in picked[1:]:
        parts += [border, frames[i]]
    return np.concatenate(parts, axis=1)


def compose(panel: Mapping[str, np.ndarray], gap: int = 8) -> np.ndarray:
    """Put the pictures of a panel into one labelled image, images in a row, strips stacked.

    Args:
        panel (Mapping[str, np.ndarray]): Pictures of one size, uint8 (H, W, 3), by label.
        gap (int): White pixels around and between the pictures. Defaults to 8.

    Returns:
        np.ndarray: RGB image, uint8 (height, width, 3).

    Raises:
        ValueError: If the panel is empty or its pictures differ in size.
    """
    sizes = {picture.shape for picture in panel.values()}
    if len(sizes) != 1:
        raise ValueError(f"A panel needs pictures of one size, got {sorted(sizes)}.")
    height, width, _ = sizes.pop()
    font_size = 18
    line = font_size + gap
    in_a_row = width <= 2 * height
    columns, rows = (len(panel), 1) if in_a_row else (1, len(panel))
    size = (columns * (width + gap) + gap, rows * (line + height + gap) + gap)
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(font_size)
    for i, (label, picture) in enumerate(panel.items()):
        left = gap + (i * (width + gap) if in_a_row else 0)
        top = gap + (0 if in_a_row else i * (line + height + gap))
        draw.text((left, top), label, fill="black", font=font)
        page.paste(Image.fromarray(picture), (left, top + line))
    return np.asarray(page)


def _input_frames(
    inputs: ArrayLike | torch.Tensor, mask: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> np.ndarray:
    """The first frame of each step of the token grid, uint8 (T', H, W, 3)."""
    inputs = to_numpy(inputs)
    if inputs.ndim not in (3, 4) or inputs.shape[0] != 3:
        raise ValueError(f"inputs must be (3, H, W) or (3, T, H, W), got {inputs.shape}.")
    clip = inputs if inputs.ndim == 4 else inputs[:, None]  # (3, T, H, W)
    if any(s % g for s, g in zip(clip.shape[1:], mask.shape, strict=True)):
        raise ValueError(
            f"The mask's token grid {mask.shape} does not divide the input size {clip.shape[1:]} (T, H, W)."
        )
    frames = clip[:, :: clip.shape[1] // mask.shape[0]].transpose(1, 2, 3, 0)  # (T', H, W, 3)
    if frames.dtype == np.uint8:
        return frames
    frames = frames * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    return (frames.clip(0, 255) + 0.5).astype(np.uint8)


def _enlarge(frames: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """Repeat each pixel of (T, H, W, ...) in rows and columns."""
    return frames.repeat(rows, axis=1).repeat(cols, axis=2)
