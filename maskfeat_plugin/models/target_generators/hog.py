"""Histograms of oriented gradients, the target of MaskFeat."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import frames_of_tokens, token_size
from .base import BaseTargetGenerator


@MODELS.register_module()
class HOGGenerator(BaseTargetGenerator):
    """HOG features of the masked tokens (MaskFeat paper).

    Gradients are Sobel differences of each colour channel, orientations are unsigned, each pixel votes with its
    magnitude for one of ``nbins`` bins of its cell, and each cell's histogram is L2-normalised. Given a mask, only the
    pixels of masked tokens (and one around them) are touched. It does the job of ``mmpretrain.HOGGenerator``, whose
    variant is ``gaussian_window=16``, for any grid and for clips.

    Args:
        nbins (int): Orientation bins over 180 degrees. Defaults to 9.
        cell_size (int): Side of a cell in pixels. Defaults to 8.
        gaussian_window (int): Side in pixels of the Gaussian window that is tiled over the image and weights the votes;
            its standard deviation is half its side. Defaults to 0, no window, as the authors'.
        patch_size (int): Side of a token in pixels where no mask says it. Defaults to 16.
        temporal_stride (int): Frames that a token covers where no mask says it. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If an argument is out of range, at construction.
    """

    def __init__(
        self,
        nbins: int = 9,
        cell_size: int = 8,
        gaussian_window: int = 0,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        for name, value, least in (
            ("nbins", nbins, 1),
            ("cell_size", cell_size, 1),
            ("gaussian_window", gaussian_window, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"target_generator.{name} must be an integer of at least {least}, got {value!r}.")
        self.nbins = nbins
        self.cell_size = cell_size
        self.gaussian_window = gaussian_window
        if gaussian_window:
            offset = torch.arange(gaussian_window) - (gaussian_window - 1) / 2
            profile = torch.exp(-0.5 * (offset / (gaussian_window // 2)) ** 2)
            window = profile[:, None] * profile[None, :]
            self.register_buffer("window", window / window.sum(), persistent=False)

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the HOG of the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, C * nbins * u * v): for each token its u x v cells, ordered channel, bin, cell row, cell
            column.

        Raises:
            ValueError: If a token is not made of whole cells, or the mask's grid does not fit the inputs.
        """
        frames_per_token, height, width = token_size(inputs, mask)
        self._check_cells(height, width, "size of a token (input size / the mask's token grid)")
        frames = F.pad(  # (N*T', C, H+2, W+2)
            frames_of_tokens(inputs, frames_per_token).flatten(0, 1).float(), (1,) * 4, "reflect"
        )
        # A token with one pixel around it: (N*T', C, H', W', h+2, w+2), a view.
        patches = frames.unfold(2, height + 2, height).unfold(3, width + 2, width)
        grid_mask = mask.flatten(0, 1)  # (N*T', H', W')
        patches = patches.permute(0, 2, 3, 1, 4, 5)[grid_mask]  # (M, C, h+2, w+2)
        window = None
        if self.gaussian_window:
            window = self._tiled_window(inputs.shape[-2], inputs.shape[-1])
            window = window.unfold(0, height, height).unfold(1, width, width)  # (H', W', h, w)
            window = window.expand(len(grid_mask), -1, -1, -1, -1)[grid_mask]  # (M, h, w)
            window = window.unsqueeze(1)
        return self._histograms(patches, window).flatten(1)

    @torch.no_grad()
    def hog(self, images: Tensor) -> Tensor:
        """Compute the HOG of whole images.

        Args:
            images (Tensor): Normalised images (N, C, H, W).

        Returns:
            Tensor: float32 (N, C, nbins, H / cell_size, W / cell_size).

        Raises:
            ValueError: If H or W is not a multiple of ``cell_size``.
        """
        height, width = images.shape[-2:]
        self._check_cells(height, width, "image size")
        window = self._tiled_window(height, width) if self.gaussian_window else None
        return self._histograms(F.pad(images.float(), (1,) * 4, "reflect"), window)

    def _check_cells(self, height: int, width: int, what: str) -> None:
        if height % self.cell_size or width % self.cell_size:
            raise ValueError(
                f"target_generator.cell_size={self.cell_size} does not divide the {what} "
                f"{(height, width)}; choose a divisor of both."
            )

    def _tiled_window(self, height: int, width: int) -> Tensor:
        side = self.gaussian_window
        tiles = math.ceil(height / side), math.ceil(width / side)
        return self.window.repeat(*tiles)[:height, :width]

    def _histograms(self, x: Tensor, window: Tensor | None) -> Tensor:
        """Normalised histograms (B, C, nbins, h / cell, w / cell) of padded images (B, C, h+2, w+2)."""
        gx, gy = _sobel(x)
        magnitude = (gx * gx).addcmul_(gy, gy).sqrt_()  # (B, C, h, w)
        if window is not None:
            magnitude = magnitude * window
        # Unsigned orientation: opposite gradients share one of the nbins bins over 180 degrees. Division before
        # multiplication, because the rounding decides the bin of the many pixels whose gradient lies on an axis.
        phase = torch.atan2(gx, gy).div_(math.pi).mul_(self.nbins).floor_()
        bins = phase.remainder_(self.nbins).long()

        batch, channels, height, width = magnitude.shape
        rows, cols = height // self.cell_size, width // self.cell_size
        row = torch.arange(height, device=x.device) // self.cell_size
        col = torch.arange(width, device=x.device) // self.cell_size
        planes = torch.arange(batch * channels, device=x.device).view(batch, channels, 1, 1)
        # Index of (plane, bin, row, col) in the flat output: one vote per pixel, no one-hot volume.
        index = bins.mul_(rows * cols).add_(row[:, None] * cols + col)
        index += planes * (self.nbins * rows * cols)
        votes = magnitude.new_zeros(batch * channels * self.nbins * rows * cols)
        votes.scatter_add_(0, index.flatten(), magnitude.flatten())
        return F.normalize(votes.view(batch, channels, self.nbins, rows, cols), p=2, dim=2)


def _sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel differences (..., h, w) in x and y of padded images (..., h+2, w+2).

    The nine terms are summed row by row, as a convolution does: another order rounds otherwise, and where a difference
    should be zero the rounding decides the orientation. So results agree with the authors' to the bit.
    """
    height, width = x.shape[-2] - 2, x.shape[-1] - 2

    def at(row: int, col: int) -> Tensor:
        return x[..., row : row + height, col : col + width]

    gx = at(0, 0) - at(0, 2)
    gx.add_(at(1, 0), alpha=2).sub_(at(1, 2), alpha=2).add_(at(2, 0)).sub_(at(2, 2))
    gy = at(0, 0).add(at(0, 1), alpha=2).add_(at(0, 2))
    gy.sub_(at(2, 0)).sub_(at(2, 1), alpha=2).sub_(at(2, 2))
    return gx, gy
