"""Mask generators: which tokens of a sample are hidden."""

from abc import abstractmethod
from collections.abc import Sequence
from math import log, prod

import numpy as np
from mmcv.transforms import BaseTransform

from maskfeat_plugin.registry import TRANSFORMS

Grid = tuple[int, ...]

# Blocks that may fail to fit, one after another, before single places fill up the rest.
_ATTEMPTS = 100
# Blocks drawn at a time, because numpy draws 16 numbers as fast as one.
_CANDIDATES = 16


class BaseMaskGenerator(BaseTransform):
    """Draws one mask a sample (or one a clip, if a sample holds several) and writes it to ``results['mask']``.

    Added keys: ``mask``, numpy bool, True where a token is hidden: (H', W') for a grid of two numbers, (T', H', W') for
    one of three, (M, T', H', W') if ``results['imgs']`` holds M > 1 clips.

    Args:
        token_grid (Sequence[int]): Token grid of the backbone, (H', W') for images or (T', H', W') for clips.
        mask_ratio (float): Share of the tokens to hide, in (0, 1). Defaults to 0.4, as in the paper.
        window_size (Sequence[int], optional): A coarser grid on which the mask is drawn, before it is repeated onto
            the token grid; the authors draw video masks on 8 x 7 x 7 for a token grid of 8 x 14 x 14. Defaults to
            None, the token grid.
        seed (int, optional): For masks that stay the same: the mask then depends on the seed and on
            ``results['sample_idx']`` only, or, where that is missing, on how many masks were drawn before. Defaults
            to None: a new mask each time, drawn from numpy's global state, which mmengine seeds in each worker.

    Raises:
        ValueError: If the ratio is outside (0, 1) or the grids are no positive integers that divide.
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
        if not 0 < mask_ratio < 1:
            raise ValueError(f"{name}: mask_ratio={mask_ratio} is outside (0, 1).")
        if prod(self.window_size) < 2:
            raise ValueError(f"{name}: a grid of one token cannot be masked in part, got {self.window_size}.")
        self.mask_ratio = mask_ratio
        self.seed = seed
        self._stream = None if seed is None else np.random.default_rng(seed)

    def num_masked(self, size: int) -> int:
        """How many of ``size`` places the ratio stands for: rounded, at least one, never all."""
        return min(max(round(self.mask_ratio * size), 1), size - 1)

    @abstractmethod
    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask.

        Args:
            rng (np.random.Generator): Source of randomness.

        Returns:
            np.ndarray: bool, of the shape ``window_size``.
        """

    def transform(self, results: dict) -> dict:
        """Add ``mask`` to a sample."""
        rng = self._rng(results)
        imgs = results.get("imgs")
        num_clips = len(imgs) if getattr(imgs, "ndim", 0) == 5 else 1
        masks = [self._repeat(self.generate(rng)) for _ in range(num_clips)]
        results["mask"] = masks[0] if num_clips == 1 else np.stack(masks)
        return results

    def _rng(self, results: dict) -> np.random.Generator:
        if self.seed is None:
            return np.random.default_rng(np.random.randint(2**31, size=4))
        if "sample_idx" in results:
            return np.random.default_rng([self.seed, int(results["sample_idx"])])
        return self._stream

    def _repeat(self, mask: np.ndarray) -> np.ndarray:
        for axis, (g, w) in enumerate(zip(self.token_grid, self.window_size, strict=True)):
            if g != w:
                mask = mask.repeat(g // w, axis)
        return mask

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(token_grid={self.token_grid}, mask_ratio={self.mask_ratio}, "
            f"window_size={self.window_size}, seed={self.seed})"
        )


def _check_grid(name: str, key: str, grid: Sequence[int], dims: tuple[int, ...]) -> Grid:
    valid = isinstance(grid, Sequence) and len(grid) in dims
    if not valid or not all(isinstance(g, int) and g > 0 for g in grid):
        shapes = " or ".join({2: "(H', W')", 3: "(T', H', W')"}[d] for d in dims)
        raise ValueError(f"{name}: {key}={grid!r} must be positive integers {shapes}.")
    return tuple(grid)


@TRANSFORMS.register_module()
class RandomMaskGenerator(BaseMaskGenerator):
    """Each token on its own, an exact number of them; for images and clips."""

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        mask = np.zeros(prod(self.window_size), bool)
        mask[rng.permutation(mask.size)[: self.num_masked(mask.size)]] = True
        return mask.reshape(self.window_size)


@TRANSFORMS.register_module()
class FrameMaskGenerator(BaseMaskGenerator):
    """Whole time steps, an exact number of them (MaskFeat paper, frame masking); for clips."""

    dims = (3,)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.window_size[0] < 2:
            raise ValueError("FrameMaskGenerator: a grid of one time step cannot be masked in part.")

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        steps = self.window_size[0]
        mask = np.zeros(self.window_size, bool)
        mask[rng.permutation(steps)[: self.num_masked(steps)]] = True
        return mask


class _BlockwiseMaskGenerator(BaseMaskGenerator):
    """Blocks of random area and aspect ratio until the ratio is reached, exactly.

    BEiT's algorithm (Bao et al., 2022), the authors' choice. When no further block fits into what is left of the ratio,
    single places fill it up, as in ``mmpretrain.BEiTMaskGenerator``.

    Args:
        token_grid (Sequence[int]): See :class:`BaseMaskGenerator`.
        mask_ratio (float): See :class:`BaseMaskGenerator`. Defaults to 0.4.
        window_size (Sequence[int], optional): See :class:`BaseMaskGenerator`. Defaults to None.
        min_num_patches (int, optional): Least area of a block, in places of the window. Defaults to None, see the
            subclass.
        max_num_patches (int, optional): Greatest area of a block. Defaults to None, see the subclass.
        min_aspect (float): Least aspect ratio of a block; the greatest is its inverse. Defaults to 0.3.
        seed (int, optional): See :class:`BaseMaskGenerator`. Defaults to None.
    """

    def __init__(
        self,
        token_grid: Sequence[int],
        mask_ratio: float = 0.4,
        window_size: Sequence[int] | None = None,
        min_num_patches: int | None = None,
        max_num_patches: int | None = None,
        min_aspect: float = 0.3,
        seed: int | None = None,
    ) -> None:
        super().__init__(token_grid, mask_ratio, window_size, seed)
        name = type(self).__name__
        if not 0 < min_aspect <= 1:
            raise ValueError(f"{name}: min_aspect={min_aspect} is outside (0, 1].")
        least, greatest = self.default_area()
        self.min_num_patches = max(1, least) if min_num_patches is None else min_num_patches
        self.max_num_patches = greatest if max_num_patches is None else max_num_patches
        if not 1 <= self.min_num_patches <= self.max_num_patches:
            raise ValueError(
                f"{name}: min_num_patches={self.min_num_patches} must lie between 1 and "
                f"max_num_patches={self.max_num_patches}."
            )
        self.log_aspect = log(min_aspect)

    @abstractmethod
    def default_area(self) -> tuple[int, int]:
        """Least and greatest area of a block, where not given."""

    def draw_blocks(self, rng: np.random.Generator, steps: int, total: int) -> np.ndarray:
        """Cover a grid (steps, H'', W'') with blocks.

        Args:
            rng (np.random.Generator): Source of randomness.
            steps (int): Time steps of the grid; a block lasts from 1 to all of them.
            total (int): Places to cover at most.

        Returns:
            np.ndarray: bool (steps, H'', W'') with ``total`` places covered.
        """
        mask = np.zeros((steps, *self.window_size[-2:]), bool)
        count, failures = 0, 0
        candidates: list[tuple[slice, slice, slice] | None] = []
        while count < total and failures < _ATTEMPTS:
            if not candidates:
                candidates = self._draw_candidates(rng, mask.shape, self.greatest_area(total - count))
            place = candidates.pop()
            failures += 1
            if place is None:
                continue
            block = mask[place]
            added = block.size - int(np.count_nonzero(block))
            if 0 < added <= total - count:
                block[:] = True
                count += added
                failures = 0
                candidates.clear()
        free = np.flatnonzero(~mask)
        mask.reshape(-1)[rng.permutation(free)[: total - count]] = True
        return mask

    def greatest_area(self, remaining: int) -> int:
        """Bound of a block's area when ``remaining`` places are left to cover: BEiT draws no larger one."""
        return min(remaining, self.max_num_patches)

    def _draw_candidates(
        self, rng: np.random.Generator, grid: Grid, greatest: int
    ) -> list[tuple[slice, slice, slice] | None]:
        """Places of random blocks on a grid (steps, H'', W''), None for a block as large as a side."""
        steps, height, width = grid
        bounds = sorted((self.min_num_patches, greatest))
        area = rng.uniform(*bounds, _CANDIDATES)
        aspect = np.exp(rng.uniform(self.log_aspect, -self.log_aspect, _CANDIDATES))
        size = np.empty((3, _CANDIDATES), int)
        size[0] = rng.integers(1, steps + 1, _CANDIDATES)
        size[1] = np.maximum(np.rint(np.sqrt(area * aspect)), 1)
        size[2] = np.maximum(np.rint(np.sqrt(area / aspect)), 1)
        room = np.array(grid)[:, None] - size  # (3, candidates)
        start = (rng.random(size.shape) * (room + 1)).astype(int)
        fits = (room[1:] > 0).all(0)  # BEiT's blocks never span a side
        return [
            tuple(slice(i, i + n) for i, n in zip(first, extent, strict=True)) if ok else None
            for first, extent, ok in zip(start.T.tolist(), size.T.tolist(), fits.tolist(), strict=True)
        ]


@TRANSFORMS.register_module()
class BlockMaskGenerator(_BlockwiseMaskGenerator):
    """Block-wise masks for images (MaskFeat paper): blocks of random area, aspect ratio and place.

    Args:
        token_grid (Sequence[int]): Token grid (H', W').
        min_num_patches (int, optional): Least area of a block. Defaults to None: a fifth of the tokens to hide.
        max_num_patches (int, optional): Greatest area of a block. Defaults to None: all the tokens to hide.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect`` and ``seed`` of the base class.
    """

    dims = (2,)

    def default_area(self) -> tuple[int, int]:
        """Area of a block from a fifth of the tokens to hide up to all of them."""
        total = self.num_masked(prod(self.window_size))
        return total // 5, total

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        return self.draw_blocks(rng, 1, self.num_masked(prod(self.window_size)))[0]


@TRANSFORMS.register_module()
class TubeMaskGenerator(_BlockwiseMaskGenerator):
    """A block-wise mask in space, the same at all times (MaskFeat paper, tube masking); for clips.

    Args:
        token_grid (Sequence[int]): Token grid (T', H', W').
        min_num_patches (int, optional): Least area of a block. Defaults to None: a fifth of the tokens to hide in a
            time step.
        max_num_patches (int, optional): Greatest area of a block. Defaults to None: all of these.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect`` and ``seed`` of the base class.
    """

    dims = (3,)

    def default_area(self) -> tuple[int, int]:
        """Area of a block from a fifth of the tokens to hide in a time step up to all of these."""
        total = self.num_masked(prod(self.window_size[1:]))
        return total // 5, total

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        mask = self.draw_blocks(rng, 1, self.num_masked(prod(self.window_size[1:])))
        return mask.repeat(self.window_size[0], axis=0)


@TRANSFORMS.register_module()
class CubeMaskGenerator(_BlockwiseMaskGenerator):
    """Cubes: blocks in space that last a random time (MaskFeat paper); for clips.

    Args:
        token_grid (Sequence[int]): Token grid (T', H', W').
        min_num_patches (int, optional): Least spatial area of a cube. Defaults to None: a fifth of a time step.
        max_num_patches (int, optional): Greatest spatial area of a cube. Defaults to None: a whole time step.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect`` and ``seed`` of the base class.
    """

    dims = (3,)

    def default_area(self) -> tuple[int, int]:
        """Spatial area of a cube from a fifth of a time step up to a whole one."""
        area = prod(self.window_size[1:])
        return area // 5, area

    def greatest_area(self, remaining: int) -> int:
        """Bound of a cube's spatial area, whatever is left: its volume is compared with that."""
        return self.max_num_patches

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        return self.draw_blocks(rng, self.window_size[0], self.num_masked(prod(self.window_size)))
