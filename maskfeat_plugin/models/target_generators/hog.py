"""Histograms of oriented gradients, the target of MaskFeat."""

import logging
import math

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor

from maskfeat_plugin.ops.gate import takes_kernels
from maskfeat_plugin.ops.gradient_histograms import (
    COLOR_SPACES,
    GRADIENTS,
    NORMS,
    cell_histograms,
    convert_color,
    normalize_blocks,
)
from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, frames_of_tokens, token_size
from .base import BaseTargetGenerator

# Values computed at once on a CPU: one image of 3 x 224 x 224, so that intermediate results stay in the cache
_VALUES_AT_ONCE = 1 << 18


@MODELS.register_module()
class HOGGenerator(BaseTargetGenerator):
    """Target generator of HOG features of the masked tokens (MaskFeat paper).

    By default, gradients are Sobel differences of each colour channel and orientations are unsigned. Each pixel votes
    with its magnitude for one of ``nbins`` bins of its cell, and each cell's histogram is L2-normalised. Given a mask,
    only the pixels of masked tokens, and one pixel around them, are read. Blocks of several cells need their
    neighbours, so whole frames are read for them. HOG is computed on the normalised inputs.

    It replaces ``mmpretrain.HOGGenerator`` for any grid and for clips; ``gaussian_window=16`` gives that generator's
    variant. On a GPU with Triton, one fused kernel computes it, see
    :func:`maskfeat_plugin.ops.triton_histograms.token_histograms`.

    Args:
        nbins (int): Orientation bins over 180 degrees, or over 360 if ``signed``. Defaults to 9.
        cell_size (int): Side of a cell in pixels. Defaults to 8.
        gaussian_window (int): Side in pixels of the Gaussian window that is tiled over the image and weights the votes.
            Its standard deviation is half its side. Defaults to 0: no window, as in the authors' code.
        signed (bool): Whether a gradient from dark to light and one from light to dark get different bins. Defaults
            to False.
        color_space (str): "rgb", each channel by itself; "gray", one channel; "opponent", red against green, yellow
            against blue, and intensity. Defaults to "rgb".
        gradient (str): "sobel" or "central", the differences [-1, 0, 1] of Dalal and Triggs. Defaults to "sobel".
        norm (str): "none", "l1", "l2" or "l2-hys" (no value above 0.2). Defaults to "l2".
        block_size (int): Side in cells of the blocks that are normalised, see :func:`normalize_blocks`. With b > 1,
            each cell has b**2 normalised histograms. Defaults to 1: each cell by itself.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        nbins: int = 9,
        cell_size: int = 8,
        gaussian_window: int = 0,
        signed: bool = False,
        color_space: str = "rgb",
        gradient: str = "sobel",
        norm: str = "l2",
        block_size: int = 1,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        for name, value, least in (
            ("nbins", nbins, 1),
            ("cell_size", cell_size, 1),
            ("gaussian_window", gaussian_window, 0),
            ("block_size", block_size, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
        for name, value, choices in (
            ("color_space", color_space, COLOR_SPACES),
            ("gradient", gradient, GRADIENTS),
            ("norm", norm, NORMS),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {sorted(choices)}.")
        self.nbins = nbins
        self.cell_size = cell_size
        self.gaussian_window = gaussian_window
        self.signed = signed
        self.color_space = color_space
        self.gradient = gradient
        self.norm = norm
        self.block_size = block_size
        self._kernel_supported = True  # until a call shows the opposite
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
            Tensor: float32 (M, C * nbins * block_size**2 * u * v): the u x v cells of each token, ordered by channel,
                position in the block, bin, cell row, cell column.

        Raises:
            ValueError: If a token does not consist of whole cells, or the mask's grid does not fit the inputs.
        """
        return self._generate(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the HOG of masked tokens whose places are known, see :meth:`generate`."""
        return self._generate(inputs, mask, places)

    def _generate(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        frames_per_token, height, width = token_size(inputs, mask)
        self._check_cells(height, width, "size of a token (input size / the mask's token grid)")
        frames = self._frames(inputs, frames_per_token)  # (N, T', C, H, W)
        if self.block_size > 1:
            return self._masked_blocks(frames, mask, places, height, width)
        if frames.is_cuda:
            tokens = mask.nonzero() if places is None else torch.stack(places.on_grid(), dim=1)  # (M, 4)
            histograms = self.fused_histograms(frames, tokens, (height, width))
            if histograms is not None:
                return histograms.flatten(1)
        return self._masked_tokens(frames, mask, places, height, width)

    def _frames(self, inputs: Tensor, frames_per_token: int) -> Tensor:
        """Return the picture (N, T', C, H, W) of each token's time step."""
        return frames_of_tokens(inputs, frames_per_token)

    @torch.no_grad()
    def hog(self, images: Tensor) -> Tensor:
        """Compute the HOG of whole images.

        Args:
            images (Tensor): Normalised images (N, C, H, W).

        Returns:
            Tensor: float32 (N, C, nbins * block_size**2, H / cell_size, W / cell_size).

        Raises:
            ValueError: If H or W is not a multiple of ``cell_size``.
        """
        height, width = images.shape[-2:]
        self._check_cells(height, width, "image size")
        if images.is_cuda:
            cells = self.fused_histograms(images.unsqueeze(1), None, (height, width))
            if cells is not None:
                return cells if self.block_size == 1 else normalize_blocks(cells, self.norm, self.block_size)
        window = self._tiled_window(height, width) if self.gaussian_window else None
        parts = images.split(self._at_once(images, len(images), images[:1].numel()))
        return torch.cat([self._histograms(self._pad(part), window) for part in parts])

    def fused_histograms(self, frames: Tensor, tokens: Tensor | None, size: tuple[int, int]) -> Tensor | None:
        """Compute the histograms of tokens with the fused kernel, if it supports the inputs.

        Args:
            frames (Tensor): Normalised frames (N, T', C, H, W).
            tokens (Tensor, optional): int64 (M, 4), the place of each token on the grid (N, T', H', W'). None means
                that each frame is one token.
            size (tuple[int, int]): Height and width of a token in pixels.

        Returns:
            Tensor | None: float32 (M, C, nbins, u, v), normalised if ``block_size`` is 1. None if the PyTorch
            operations have to be used: without Triton, for frames and settings that the kernel does not support, while
            the fast paths are off, and on a device that does not support the kernel (logged once as a warning).

        Raises:
            Exception: Any error of the kernel itself. A device that does not support the kernel is not an error.
        """
        if not self._kernel_supported or min(frames.shape[-2:]) < 2 or (self.signed and self.nbins % 2):
            return None
        if not takes_kernels(frames):
            return None
        try:
            from maskfeat_plugin.ops.triton_histograms import UnsupportedKernelError, runs_on, token_histograms
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "triton":
                raise
            return None
        if torch.compiler.is_compiling() and not runs_on(frames.device):
            return None  # without a warning, which would break the graph
        try:
            return token_histograms(
                convert_color(frames.float(), self.color_space) if self.color_space != "rgb" else frames,
                tokens,
                size,
                self.nbins,
                self.cell_size,
                self.signed,
                self.gradient,
                self.norm if self.block_size == 1 else "none",
                self.window if self.gaussian_window else None,
            )
        except UnsupportedKernelError as error:
            self._kernel_supported = False
            print_log(
                f"HOG's kernel does not run here ({error}). PyTorch's operations are used instead, with the same "
                "results.",
                "current",
                logging.WARNING,
            )
            return None

    def _masked_tokens(
        self, frames: Tensor, mask: Tensor, places: TokenPlaces | None, height: int, width: int
    ) -> Tensor:
        """Compute the features (M, D) of masked tokens of height x width.

        Frames are (N, T', C, H, W), the mask (N, T', H', W').
        """
        window = None
        if self.gaussian_window:
            window = self._tiled_window(frames.shape[-2], frames.shape[-1])
            window = window.unfold(0, height, height).unfold(1, width, width)  # (H', W', h, w)
        size = self._at_once(frames, len(frames), frames[:1].numel())  # samples
        found = []
        for first, part in zip(range(0, len(frames), size), frames.split(size), strict=True):
            # A token with one pixel around it: (S*T', H', W', C, h+2, w+2), a view. Each further index would cost time
            patches = self._pad(part.flatten(0, 1)).unfold(2, height + 2, height).unfold(3, width + 2, width)
            patches = patches.permute(0, 2, 3, 1, 4, 5)
            if places is None:
                tokens = mask[first : first + size].flatten(0, 1).nonzero(as_tuple=True)
            else:
                tokens = TokenPlaces(places.grid, places.index[first : first + size]).in_frames()
            count = self._at_once(frames, len(tokens[0]), part.shape[2] * height * width)
            for some in zip(*(axis.split(count) for axis in tokens), strict=True):
                weights = None if window is None else window[some[1:]].unsqueeze(1)  # (M, 1, h, w)
                # To copy all tokens takes a quarter of the time that it takes to gather them
                is_all = not torch.compiler.is_compiling() and len(some[0]) == patches.shape[:3].numel()
                tokens_of_part = patches.flatten(0, 2) if is_all else patches[some]  # (M, C, h+2, w+2)
                found.append(self._histograms(tokens_of_part, weights).flatten(1))
        return torch.cat(found)

    def _masked_blocks(
        self, frames: Tensor, mask: Tensor, places: TokenPlaces | None, height: int, width: int
    ) -> Tensor:
        """Compute the features of masked tokens with blocks of cells, for which whole frames are needed."""
        rows, cols = height // self.cell_size, width // self.cell_size
        images = frames.flatten(0, 1)  # (N*T', C, H, W)
        if places is None:
            grid_mask = mask.flatten(0, 1)  # (N*T', H', W')
            asked = grid_mask.flatten(1).any(1)
            cells = self.hog(images[asked]).unfold(3, rows, rows).unfold(4, cols, cols)  # (F, C, n, H', W', u, v)
            return cells.permute(0, 3, 4, 1, 2, 5, 6)[grid_mask[asked]].flatten(1)
        cells = self.hog(images).unfold(3, rows, rows).unfold(4, cols, cols).unflatten(0, frames.shape[:2])
        return cells.permute(0, 1, 4, 5, 2, 3, 6, 7)[places.on_grid()].flatten(1)

    def _pad(self, images: Tensor) -> Tensor:
        """Convert images (B, C, H, W) to the colour space and pad them by one pixel: (B, C, H+2, W+2)."""
        return F.pad(convert_color(images.float(), self.color_space), (1,) * 4, "reflect")

    @staticmethod
    def _at_once(x: Tensor, count: int, values: int) -> int:
        """Return how many of ``count`` items with ``values`` numbers each to compute at once.

        On a CPU few, so that intermediate results stay in its cache. Elsewhere, and for a compiler, all.
        """
        if x.is_cuda or torch.compiler.is_compiling():
            return max(1, count)
        return max(1, _VALUES_AT_ONCE // max(1, values))

    def _check_cells(self, height: int, width: int, what: str) -> None:
        if height % self.cell_size or width % self.cell_size:
            raise ValueError(
                f"cell_size={self.cell_size} does not divide the {what} {(height, width)}; choose a divisor of both."
            )

    def _tiled_window(self, height: int, width: int) -> Tensor:
        side = self.gaussian_window
        tiles = math.ceil(height / side), math.ceil(width / side)
        return self.window.repeat(*tiles)[:height, :width]

    def _histograms(self, x: Tensor, window: Tensor | None) -> Tensor:
        """Compute normalised histograms (B, C, n, h / cell, w / cell) of padded images (B, C, h+2, w+2)."""
        gx, gy = GRADIENTS[self.gradient](x)
        cells = cell_histograms(gx, gy, window, self.nbins, self.cell_size, self.signed)
        return normalize_blocks(cells, self.norm, self.block_size)
