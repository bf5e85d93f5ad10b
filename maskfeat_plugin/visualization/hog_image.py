"""Pictures of HOG features, with one stroke per cell and orientation bin."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

Reduction = Literal["mean", "max"]


def to_numpy(array: ArrayLike | torch.Tensor) -> np.ndarray:
    """Convert a tensor of any device and floating type, or an array, to a numpy array."""
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        if array.dtype == torch.bfloat16:  # numpy has no such type
            array = array.float()
        return array.numpy()
    return np.asarray(array)


def draw_hog(
    hog: ArrayLike | torch.Tensor,
    cell_pixels: int = 16,
    reduce: Reduction = "mean",
    color: tuple[int, int, int] = (255, 255, 255),
    max_value: float = 1.0,
    signed: bool = False,
) -> np.ndarray:
    """Draw the histograms of all cells as oriented strokes on black.

    A stroke runs along the edge, perpendicular to the gradient, at the middle angle of its bin, as
    in ``skimage.feature.hog(visualize=True)``. So a vertical edge of the image is a vertical stroke.
    The angle of a stroke differs from the angle of its edge by at most half a bin. (With 9 bins,
    exactly horizontal edges are on the border of two bins, and their strokes are tilted by 10 degrees.)
    The brightness of a stroke is the value of its bin. If strokes cross, the brighter one is shown, so
    that the centres of cells without a clear direction are not saturated. The scale does not depend
    on the content, so two drawings can be compared.

    Args:
        hog (ArrayLike | Tensor): Histograms (C, nbins, rows, cols) or (nbins, rows, cols) in the
            bins of :class:`HOGGenerator`. Negative values, which a prediction may have, count as 0.
        cell_pixels (int): Side of a drawn cell in pixels. Defaults to 16.
        reduce (str): How colour channels are combined, "mean" or "max". Defaults to "mean".
        color (tuple[int, int, int]): RGB of a stroke at ``max_value``. Defaults to white.
        max_value (float): The value drawn at full brightness; the largest possible value of
            L2-normalised histograms is 1. Defaults to 1.0.
        signed (bool): Whether the bins cover 360 degrees; then opposite bins share a stroke. Defaults to False.

    Returns:
        np.ndarray: RGB image, uint8 (rows * cell_pixels, cols * cell_pixels, 3).

    Raises:
        ValueError: If an argument is out of range or the histograms have another number of
            dimensions.
    """
    if cell_pixels < 3:
        raise ValueError(f"cell_pixels must be at least 3 to show a direction, got {cell_pixels}.")
    if max_value <= 0:
        raise ValueError(f"max_value must be positive, got {max_value}.")
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce={reduce!r} is unknown; choose 'mean' or 'max'.")
    hog = to_numpy(hog).astype(np.float32)
    if hog.ndim not in (3, 4):
        raise ValueError(
            f"hog must be (C, nbins, rows, cols) or (nbins, rows, cols), got an array of shape {hog.shape}."
        )
    if hog.ndim == 4:
        hog = hog.mean(0) if reduce == "mean" else hog.max(0)
    nbins, rows, cols = hog.shape
    values = np.clip(hog / max_value, 0, 1)

    canvas = np.zeros((rows, cell_pixels, cols, cell_pixels), np.float32)
    for value, stroke in zip(values, stroke_bank(nbins, cell_pixels, signed), strict=True):
        # (rows, 1, cols, 1) * (P, 1, P) -> (rows, P, cols, P)
        np.maximum(canvas, value[:, None, :, None] * stroke[:, None, :], out=canvas)
    canvas = canvas.reshape(rows * cell_pixels, cols * cell_pixels, 1)
    return (canvas * np.asarray(color, np.float32) + 0.5).astype(np.uint8)


def stroke_bank(nbins: int, cell_pixels: int, signed: bool = False) -> np.ndarray:
    """Draw one anti-aliased stroke per orientation bin.

    Args:
        nbins (int): Orientation bins over 180 degrees, or over 360 if signed.
        cell_pixels (int): Side of a cell in pixels.
        signed (bool): Whether opposite gradients have separate bins. Defaults to False.

    Returns:
        np.ndarray: float32 (nbins, cell_pixels, cell_pixels) in [0, 1].
    """
    # A HOG bin is atan2(gx, gy) / pi * nbins: the angle is measured from the y axis, which points down. So the
    # gradient has the direction (x, y) = (sin, cos), and the edge, at right angles to it, (cos, -sin).
    angle = (np.arange(nbins)[:, None, None] + 0.5) * (2 * np.pi if signed else np.pi) / nbins
    offset = np.arange(cell_pixels) - (cell_pixels - 1) / 2
    x, y = offset[None, None, :], offset[None, :, None]
    across = np.abs(x * np.sin(angle) + y * np.cos(angle))  # (nbins, P, P), distance to the line
    along = np.abs(x * np.cos(angle) - y * np.sin(angle))
    half_width = max(1.0, cell_pixels / 10) / 2
    half_length = (cell_pixels - 1) / 2
    stroke = np.clip(half_width + 0.5 - across, 0, 1) * np.clip(half_length + 0.5 - along, 0, 1)
    return stroke.astype(np.float32)


def unflatten_hog(
    features: ArrayLike | torch.Tensor, nbins: int, cells: tuple[int, int], channels: int = 3
) -> np.ndarray:
    """Reshape the flat HOG features of tokens to channels, bins and cells.

    Args:
        features (ArrayLike | Tensor): (M, D) as :class:`HOGGenerator` computes them.
        nbins (int): Orientation bins.
        cells (tuple[int, int]): Cells per token (u, v), in rows and columns.
        channels (int): Colour channels. Defaults to 3.

    Returns:
        np.ndarray: (M, channels, nbins, u, v).

    Raises:
        ValueError: If D is not ``channels * nbins * u * v``.
    """
    features = to_numpy(features)
    shape = (channels, nbins, *cells)
    if features.ndim != 2 or features.shape[1] != np.prod(shape):
        raise ValueError(
            f"HOG features with {channels} channels, nbins={nbins} and {cells[0]} x {cells[1]} "
            f"cells per token must be (M, {np.prod(shape)}), got {features.shape}. Give the same nbins and cell_size "
            "as in the target_generator."
        )
    return features.reshape(-1, *shape)


def assemble_hog(
    features: ArrayLike | torch.Tensor,
    mask: ArrayLike | torch.Tensor,
    nbins: int,
    cells: tuple[int, int],
    channels: int = 3,
    base: ArrayLike | torch.Tensor | None = None,
) -> np.ndarray:
    """Write the HOG features of masked tokens to their positions in the whole grid of cells.

    Args:
        features (ArrayLike | Tensor): (M, D) of the masked tokens in row-major order, as
            :class:`HOGGenerator` and :meth:`MaskFeat.predict` give them.
        mask (ArrayLike | Tensor): bool (T', H', W') or (H', W') with M True values.
        nbins (int): Orientation bins.
        cells (tuple[int, int]): Cells per token (u, v), in rows and columns.
        channels (int): Colour channels. Defaults to 3.
        base (ArrayLike | Tensor, optional): Values for the other tokens, in the shape of the result.
            Defaults to None: zeros.

    Returns:
        np.ndarray: float32 (T', channels, nbins, H' * u, W' * v), T' = 1 for an image.

    Raises:
        ValueError: If features, mask and base do not fit each other.
    """
    mask = grid_mask(mask)
    tokens = unflatten_hog(features, nbins, cells, channels)  # (M, C, nbins, u, v)
    if len(tokens) != mask.sum():
        raise ValueError(f"The mask sets {mask.sum()} tokens, but there are {len(tokens)} features.")
    steps, height, width = mask.shape
    u, v = cells
    shape = (steps, channels, nbins, height * u, width * v)
    if base is None:
        grid = np.zeros(shape, np.float32)
    else:
        grid = to_numpy(base).astype(np.float32)  # a copy
        if grid.shape != shape:
            raise ValueError(f"base must be {shape}, got {grid.shape}.")
    # (T', C, nbins, H', u, W', v) -> (T', H', W', C, nbins, u, v), a view into grid
    by_token = grid.reshape(steps, channels, nbins, height, u, width, v).transpose(0, 3, 5, 1, 2, 4, 6)
    by_token[mask] = tokens
    return grid


def grid_mask(mask: ArrayLike | torch.Tensor) -> np.ndarray:
    """Convert a mask to bool (T', H', W').

    Args:
        mask (ArrayLike | Tensor): (T', H', W') or (H', W'), True where masked.

    Returns:
        np.ndarray: bool (T', H', W').

    Raises:
        ValueError: If the mask has another number of dimensions.
    """
    mask = to_numpy(mask).astype(bool)
    if mask.ndim not in (2, 3):
        raise ValueError(f"A mask must be (H', W') or (T', H', W'), got an array of shape {mask.shape}.")
    return mask[None] if mask.ndim == 2 else mask
