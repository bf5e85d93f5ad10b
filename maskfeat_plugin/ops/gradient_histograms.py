"""The steps of HOG and their variants: colour space, differences, votes of the pixels, normalisation."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Each row gives a new channel in terms of R, G and B. Grey follows ITU-R BT.601. The opponent colours follow van de
# Sande et al., "Evaluating Color Descriptors for Object and Scene Recognition".
COLOR_SPACES: dict[str, tuple[tuple[float, float, float], ...] | None] = {
    "rgb": None,
    "gray": ((0.299, 0.587, 0.114),),
    "opponent": (
        (1 / math.sqrt(2), -1 / math.sqrt(2), 0.0),
        (1 / math.sqrt(6), 1 / math.sqrt(6), -2 / math.sqrt(6)),
        (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    ),
}


def convert_color(images: Tensor, color_space: str) -> Tensor:
    """Convert RGB images to another colour space. The conversion is linear, so normalised images are allowed.

    Args:
        images (Tensor): (..., 3, H, W), floating point.
        color_space (str): A key of :data:`COLOR_SPACES`.

    Returns:
        Tensor: (..., C, H, W), with one channel for "gray", else with three.

    Raises:
        ValueError: If the images do not have three channels and have to be converted.
    """
    matrix = COLOR_SPACES[color_space]
    if matrix is None:
        return images
    if images.shape[-3] != 3:
        raise ValueError(
            f"color_space={color_space!r} needs images of 3 channels, but they have {images.shape[-3]}; "
            "set color_space='rgb', which keeps the channels as they are."
        )
    return torch.einsum("oc,...chw->...ohw", images.new_tensor(matrix), images)


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the Sobel differences in x and y, as in the authors' code.

    The nine terms are summed row by row, as a convolution does. Another order would round differently, and where a
    difference should be zero, rounding decides the orientation. So the results are bitwise equal to the authors'.

    Args:
        x (Tensor): Images with one pixel around them (..., h+2, w+2).

    Returns:
        tuple[Tensor, Tensor]: Both (..., h, w).
    """
    height, width = x.shape[-2] - 2, x.shape[-1] - 2

    def at(row: int, col: int) -> Tensor:
        return x[..., row : row + height, col : col + width]

    gx = at(0, 0) - at(0, 2)
    gx.add_(at(1, 0), alpha=2).sub_(at(1, 2), alpha=2).add_(at(2, 0)).sub_(at(2, 2))
    gy = at(0, 0).add(at(0, 1), alpha=2).add_(at(0, 2))
    gy.sub_(at(2, 0)).sub_(at(2, 1), alpha=2).sub_(at(2, 2))
    return gx, gy


def central(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the central differences [1, 0, -1] of Dalal and Triggs in x and y; arguments as in :func:`sobel`."""
    return x[..., 1:-1, :-2] - x[..., 1:-1, 2:], x[..., :-2, 1:-1] - x[..., 2:, 1:-1]


GRADIENTS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {"sobel": sobel, "central": central}


def cell_histograms(
    gx: Tensor, gy: Tensor, window: Tensor | None, nbins: int, cell_size: int, signed: bool = False
) -> Tensor:
    """Sum the votes of the pixels of each cell: each votes with its magnitude for the bin of its orientation.

    Args:
        gx (Tensor): Differences in x (B, C, h, w).
        gy (Tensor): Differences in y (B, C, h, w).
        window (Tensor, optional): Weight of each pixel's vote, broadcastable to the differences.
        nbins (int): Bins over 180 degrees, or over 360 if signed.
        cell_size (int): Side of a cell in pixels.
        signed (bool): Whether opposite gradients get different bins. Defaults to False.

    Returns:
        Tensor: (B, C, nbins, h / cell_size, w / cell_size). A cell with a NaN difference is NaN.
    """
    magnitude = (gx * gx).addcmul_(gy, gy).sqrt_()  # (B, C, h, w)
    if window is not None:
        magnitude = magnitude * window
    # If unsigned, opposite gradients share one of the nbins bins over 180 degrees. Divide before multiplying, because
    # the rounding decides the bin of the many pixels whose gradient lies on an axis.
    bins = torch.atan2(gx, gy).div_(2 * math.pi if signed else math.pi).mul_(nbins).floor_()
    # NaN converted to an integer could be any index, also an invalid one. Bin 0 gets the vote instead, which is NaN too
    bins.nan_to_num_(0)

    batch, channels, height, width = magnitude.shape
    rows, cols = height // cell_size, width // cell_size
    row = torch.arange(height, device=gx.device) // cell_size
    col = torch.arange(width, device=gx.device) // cell_size
    # Index of (bin, row, col) in the flat output of a plane: one vote per pixel, without a one-hot volume. The bins are
    # -nbins to nbins; their sums are taken modulo nbins, not the bin of each pixel.
    cell = row[:, None] * cols + col + nbins * rows * cols
    index = torch.add(cell, bins.long(), alpha=rows * cols)
    votes = magnitude.new_zeros(batch * channels, (2 * nbins + 1) * rows * cols)
    votes.scatter_add_(1, index.flatten(0, 1).flatten(1), magnitude.flatten(0, 1).flatten(1))
    votes = votes.view(batch, channels, 2 * nbins + 1, rows, cols)
    histograms = votes[:, :, :nbins] + votes[:, :, nbins:-1]
    histograms[:, :, 0] += votes[:, :, -1]
    return histograms


def _l1(x: Tensor, dim: int) -> Tensor:
    return x / x.abs().sum(dim, keepdim=True).clamp_min_(_EPS)


def _l2(x: Tensor, dim: int) -> Tensor:
    """Normalise as ``F.normalize`` does, which is much slower over a dimension that is not the last."""
    return x / x.square().sum(dim, keepdim=True).sqrt_().clamp_min_(_EPS)


def _l2_hys(x: Tensor, dim: int) -> Tensor:
    """Normalise by L2, limit the values to 0.2, and normalise by L2 again, as in Lowe's descriptor."""
    return _l2(_l2(x, dim).clamp_max_(0.2), dim)


_EPS = 1e-12  # smallest divisor, as in F.normalize
NORMS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "none": lambda x, dim: x,
    "l1": _l1,
    "l2": _l2,
    "l2-hys": _l2_hys,
}


def normalize_blocks(cells: Tensor, norm: str, block_size: int) -> Tensor:
    """Normalise cells by the blocks that contain them (Dalal and Triggs, CVPR 2005): once for each block.

    A block has ``block_size`` x ``block_size`` cells. One block begins at every cell, so each cell is part of
    ``block_size**2`` blocks. The paper lists the descriptor block by block. Here the same numbers are listed cell by
    cell, so that the values of a token stay together. Blocks that reach over the border have empty cells there.

    Args:
        cells (Tensor): Histograms (B, C, n, rows, cols).
        norm (str): A key of :data:`NORMS`.
        block_size (int): Side of a block in cells. With 1, every cell is normalised by itself.

    Returns:
        Tensor: (B, C, block_size**2 * n, rows, cols): the n values of the cell for each of its positions in a block,
            row-major.
    """
    if block_size == 1:
        return NORMS[norm](cells, 2)
    b = block_size
    batch, channels, nbins, rows, cols = cells.shape
    blocks = F.pad(cells, (b - 1,) * 4).unfold(3, b, 1).unfold(4, b, 1)  # (B, C, n, rows+b-1, cols+b-1, b, b)
    blocks = blocks.permute(0, 1, 3, 4, 5, 6, 2)  # (B, C, rows+b-1, cols+b-1, b, b, n)
    blocks = NORMS[norm](blocks.flatten(4), 4).view(blocks.shape)
    places = []
    for i in range(b):
        for j in range(b):
            # the block in which the cell (r, c) has the position (i, j) begins i rows and j columns before it
            top, left = b - 1 - i, b - 1 - j
            places.append(blocks[:, :, top : top + rows, left : left + cols, i, j])  # (B, C, rows, cols, n)
    return torch.stack(places, 2).permute(0, 1, 2, 5, 3, 4).reshape(batch, channels, b * b * nbins, rows, cols)
