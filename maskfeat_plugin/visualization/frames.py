"""Frames for drawing: a model's inputs converted back, one frame for each time step of the token grid, enlarged."""

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
    """Undo the normalisation of the data preprocessor, to get frames.

    Args:
        inputs (ArrayLike | Tensor): Normalised image (C, H, W) or clip (C, T, H, W), floating point.
        mean (ArrayLike | Tensor | Sequence[float] | float): Mean of the normalisation, one number or one per channel,
            as in ``data_preprocessor.mean``.
        std (ArrayLike | Tensor | Sequence[float] | float): Standard deviation of the normalisation.

    Returns:
        np.ndarray: uint8 (T, H, W, C), T = 1 for an image; uint16 if a value does not fit into 8 bits.

    Raises:
        ValueError: If the inputs are neither an image nor a clip.
    """
    inputs = to_numpy(inputs)
    channels = {np.size(to_numpy(values)) for values in (mean, std)} - {1} or {len(inputs)}
    if inputs.ndim not in (3, 4) or channels != {len(inputs)}:
        of = " and ".join(map(str, sorted(channels)))
        raise ValueError(f"inputs must be ({of}, H, W) or ({of}, T, H, W), got {inputs.shape}.")
    clip = inputs if inputs.ndim == 4 else inputs[:, None]
    frames = clip.transpose(1, 2, 3, 0)  # (T, H, W, C)
    frames = frames * to_numpy(std).astype(np.float32).ravel() + to_numpy(mean).astype(np.float32).ravel()
    depth = np.uint16 if frames.max(initial=0) > 256 else np.uint8  # 8-bit values may exceed 255 by a rounding error
    return (frames.clip(0, np.iinfo(depth).max) + 0.5).astype(depth)


def to_rgb(frames: ArrayLike) -> np.ndarray:
    """Convert frames with any number of channels and 8 or 16 bits to RGB frames that can be shown.

    One channel is shown in grey, two channels as red and green. Of more than three channels the first three are shown.
    Of 16 bits the upper 8 are used. Floating point numbers are clipped to 0 to 255.

    Args:
        frames (ArrayLike): (..., C), RGB if there are three channels.

    Returns:
        np.ndarray: RGB, uint8 (..., 3). If the frames have this form already, they are not copied.
    """
    frames = np.asarray(frames)
    if frames.dtype == np.uint16:
        frames = (frames >> 8).astype(np.uint8)
    elif frames.dtype != np.uint8:
        frames = (np.nan_to_num(frames).clip(0, 255) + 0.5).astype(np.uint8)
    channels = frames.shape[-1]
    if channels == 1:
        return frames.repeat(3, -1)
    if channels == 2:
        return np.concatenate([frames, np.zeros_like(frames[..., :1])], -1)
    return frames[..., :3]


def frames_of_steps(frames: ArrayLike, grid: tuple[int, int, int]) -> np.ndarray:
    """Return the first frame of each time step of the token grid. Targets are computed from these frames.

    Args:
        frames (ArrayLike): uint8 or uint16 (T, H, W, C), or an image (H, W, C); RGB, if there are three channels.
        grid (tuple[int, int, int]): The token grid (T', H', W').

    Returns:
        np.ndarray: (T', H, W, C), a view.

    Raises:
        ValueError: If the frames have another shape or type, or the grid does not divide them.
    """
    frames = np.asarray(frames)
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim != 4 or not frames.shape[-1] or frames.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            "frames must be uint8 or uint16 (T, H, W, C), such as uint8 (T, H, W, 3) for RGB, got "
            f"{frames.dtype} {frames.shape}."
        )
    if any(s % g for s, g in zip(frames.shape[:3], grid, strict=True)):
        raise ValueError(f"The mask's token grid {tuple(grid)} does not divide frames of {frames.shape[:3]} (T, H, W).")
    return frames[:: len(frames) // grid[0]]


def enlarge(frames: np.ndarray, rows: int, cols: int | None = None) -> np.ndarray:
    """Repeat each pixel or token along height and width.

    Args:
        frames (np.ndarray): Frames or token grids (T, H, W, ...).
        rows (int): Number of repetitions along H.
        cols (int, optional): Number of repetitions along W. Defaults to None: the same as ``rows``.

    Returns:
        np.ndarray: (T, H * rows, W * cols, ...).
    """
    return frames.repeat(rows, axis=1).repeat(rows if cols is None else cols, axis=2)
