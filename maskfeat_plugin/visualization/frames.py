"""Frames of what a model sees: back from its inputs, one for each time step of the token grid, enlarged."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from .hog_image import to_numpy


def unnormalize(
    inputs: ArrayLike | torch.Tensor,
    mean: ArrayLike | torch.Tensor | Sequence[float] | float,
    std: ArrayLike | torch.Tensor | Sequence[float] | float,
) -> np.ndarray:
    """Turn what the data preprocessor gives back into frames.

    Args:
        inputs (ArrayLike | Tensor): Normalised RGB image (3, H, W) or clip (3, T, H, W), floating point.
        mean (ArrayLike | Tensor | Sequence[float] | float): Mean of the normalisation, one number or one a channel, as
            ``data_preprocessor.mean`` has it.
        std (ArrayLike | Tensor | Sequence[float] | float): Its standard deviation.

    Returns:
        np.ndarray: uint8 (T, H, W, 3), T = 1 for an image.

    Raises:
        ValueError: If the inputs are neither an image nor a clip.
    """
    inputs = to_numpy(inputs)
    if inputs.ndim not in (3, 4) or inputs.shape[0] != 3:
        raise ValueError(f"inputs must be (3, H, W) or (3, T, H, W), got {inputs.shape}.")
    clip = inputs if inputs.ndim == 4 else inputs[:, None]
    frames = clip.transpose(1, 2, 3, 0)  # (T, H, W, 3)
    frames = frames * to_numpy(std).astype(np.float32).ravel() + to_numpy(mean).astype(np.float32).ravel()
    return (frames.clip(0, 255) + 0.5).astype(np.uint8)


def frames_of_steps(frames: ArrayLike, grid: tuple[int, int, int]) -> np.ndarray:
    """The first frame of each time step of the token grid: the one that targets are made of.

    Args:
        frames (ArrayLike): RGB, uint8 (T, H, W, 3), or an image (H, W, 3).
        grid (tuple[int, int, int]): The token grid (T', H', W').

    Returns:
        np.ndarray: uint8 (T', H, W, 3), a view.

    Raises:
        ValueError: If they are no such frames or the grid does not divide them.
    """
    frames = np.asarray(frames)
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be RGB, uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}.")
    if any(s % g for s, g in zip(frames.shape[:3], grid, strict=True)):
        raise ValueError(f"The mask's token grid {tuple(grid)} does not divide frames of {frames.shape[:3]} (T, H, W).")
    return frames[:: len(frames) // grid[0]]


def enlarge(frames: np.ndarray, rows: int, cols: int | None = None) -> np.ndarray:
    """Repeat each pixel, or token.

    Args:
        frames (np.ndarray): (T, H, W, ...).
        rows (int): How often along H.
        cols (int, optional): How often along W. Defaults to None: as ``rows``.

    Returns:
        np.ndarray: (T, H * rows, W * cols, ...).
    """
    return frames.repeat(rows, axis=1).repeat(rows if cols is None else cols, axis=2)
