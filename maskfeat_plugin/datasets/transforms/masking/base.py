"""Base class of all mask generators: the grid, the ratio, the random numbers."""

from abc import abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np
from mmcv.transforms import BaseTransform

from maskfeat_plugin.ops.grids import Grid

from .shared import SharedNumber


class BaseMaskGenerator(BaseTransform):
    """Base class of transforms that draw one mask per sample (or per clip or view, if a sample has several).

    Added keys: ``mask``, numpy bool, True for masked tokens: (H', W') for a grid of two numbers, (T', H', W') for a
    grid of three numbers, (M, T', H', W') if ``results['imgs']`` has M > 1 clips or ``results['img']`` is a list of M
    views.

    Args:
        token_grid (Sequence[int]): Token grid of the backbone, (H', W') for images or (T', H', W') for clips.
        mask_ratio (float): Share of the tokens to mask, in (0, 1). Defaults to 0.4, as in the paper. A
            :class:`MaskRatioHook` changes it during training.
        window_size (Sequence[int], optional): A coarser grid on which the mask is drawn before it is repeated onto the
            token grid. The authors draw video masks on 8 x 7 x 7 for a token grid of 8 x 14 x 14. Defaults to None, the
            token grid.
        seed (int, optional): Seed for masks that do not change. The mask then depends only on the seed and
            ``results['sample_idx']`` or, if that is missing, on the number of masks drawn before. Defaults to None: a
            new mask each time, drawn from numpy's global state, which mmengine seeds in each worker.

    Raises:
        ValueError: If the ratio is outside (0, 1), if the grids are not positive integers, or if the window does not
            divide the token grid.
    """

    dims: tuple[int, ...] = (2, 3)  # lengths that the token grid may have

    def __init__(
        self,
        token_grid: Sequence[int],
        mask_ratio: float = 0.4,
        window_size: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> None:
        name = type(self).__name__
        self.token_grid = _check_grid(name, "token_grid", token_grid, self.dims)
        self.window_size = self.token_grid
        if window_size is not None:
            self.window_size = _check_grid(name, "window_size", window_size, (len(self.token_grid),))
        if any(g % w for g, w in zip(self.token_grid, self.window_size, strict=True)):
            raise ValueError(f"{name}: window_size={self.window_size} does not divide token_grid={self.token_grid}.")
        if prod(self.window_size) < 2:
            raise ValueError(f"{name}: a grid of one token cannot be masked in part, got {self.window_size}.")
        self.check_ratio(mask_ratio)
        self._ratio = SharedNumber(mask_ratio)
        self._repeats = [
            (axis, g // w) for axis, (g, w) in enumerate(zip(self.token_grid, self.window_size, strict=True)) if g != w
        ]
        self.seed = seed
        self._stream = None if seed is None else np.random.default_rng(seed)

    @property
    def mask_ratio(self) -> float:
        """Share of the tokens to mask. If the main process sets it, it also changes in the workers of a dataloader."""
        return self._ratio.value

    @mask_ratio.setter
    def mask_ratio(self, ratio: float) -> None:
        self.check_ratio(ratio)
        self._ratio.value = ratio

    def check_ratio(self, ratio: float) -> None:
        """Check that masks with a ratio can be drawn.

        Args:
            ratio (float): Share of the tokens to mask.

        Raises:
            ValueError: If it is outside (0, 1) or does not fit another setting.
        """
        if not 0 < ratio < 1:
            raise ValueError(f"{type(self).__name__}: mask_ratio={ratio} is outside (0, 1).")

    def num_masked(self, size: int) -> int:
        """Return the number of masked places out of ``size``: rounded, at least one, never all."""
        return count_masked(self.mask_ratio, size)

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask.

        Args:
            rng (np.random.Generator): Source of random numbers.

        Returns:
            np.ndarray: bool with the shape ``window_size``.
        """

    def transform(self, results: dict) -> dict:
        """Add ``mask`` to a sample."""
        rng = self._rng(results)
        imgs, views = results.get("imgs", ()), results.get("img")
        if isinstance(views, list):
            masks = [self._repeat(self.generate(rng)) for _ in views]
            results["mask"] = np.stack([mask.reshape(-1, *self.token_grid[-2:]) for mask in masks])
        elif getattr(imgs, "ndim", 0) == 5 and len(imgs) > 1:
            results["mask"] = np.stack([self._repeat(self.generate(rng)) for _ in imgs])
        else:
            results["mask"] = self._repeat(self.generate(rng))
        return results

    def _rng(self, results: dict) -> np.random.Generator:
        if self.seed is None or self._stream is None:
            # numpy's global state itself, because seeding a new generator takes longer than drawing the mask
            return np.random.Generator(np.random.mtrand.get_bit_generator())
        if "sample_idx" in results:
            return np.random.default_rng([self.seed, int(results["sample_idx"])])
        return self._stream

    def _repeat(self, mask: np.ndarray) -> np.ndarray:
        for axis, times in self._repeats:
            mask = mask.repeat(times, axis)
        return mask

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(token_grid={self.token_grid}, mask_ratio={self.mask_ratio}, "
            f"window_size={self.window_size}, seed={self.seed})"
        )


def count_masked(ratio: float, size: int) -> int:
    """Return the number of masked places out of ``size`` at a ratio: rounded, at least one, never all."""
    return min(max(round(ratio * size), 1), size - 1)


def _check_grid(name: str, key: str, grid: Sequence[int], dims: tuple[int, ...]) -> Grid:
    valid = isinstance(grid, Sequence) and len(grid) in dims
    if not valid or not all(isinstance(g, int) and g > 0 for g in grid):
        shapes = " or ".join({2: "(H', W')", 3: "(T', H', W')"}[d] for d in dims)
        raise ValueError(f"{name}: {key}={grid!r} must be positive integers {shapes}.")
    return tuple(grid)
