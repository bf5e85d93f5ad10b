"""Block-wise masks: in an image, in all frames of a clip, in some frames of a clip."""

from abc import abstractmethod
from collections.abc import Sequence
from math import prod

import numpy as np

from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.registry import TRANSFORMS

from .base import BaseMaskGenerator, count_masked
from .random_blocks import RandomBlocks, RandomCubes


class _BlockwiseMaskGenerator(BaseMaskGenerator):
    """Masks of blocks with random area and aspect ratio, up to the mask ratio; see :class:`RandomBlocks`.

    Args:
        token_grid (Sequence[int]): See :class:`BaseMaskGenerator`.
        mask_ratio (float): See :class:`BaseMaskGenerator`. Defaults to 0.4.
        window_size (Sequence[int], optional): See :class:`BaseMaskGenerator`. Defaults to None.
        min_num_patches (int, optional): Smallest area of a block, in places of the window. Defaults to None, see the
            subclass.
        max_num_patches (int, optional): Largest area of a block. Defaults to None, see the subclass.
        min_aspect (float): Smallest aspect ratio of a block; the largest is its inverse. Defaults to 0.3.
        seed (int, optional): See :class:`BaseMaskGenerator`. Defaults to None.
        exact (bool): Whether every mask has the same number of masked tokens. The authors' code stops at the first
            block that does not fit, and so does False: their masks have a mean ratio of 0.396 instead of 0.4. Encoders
            of visible tokens and compiled training steps need equal numbers. Defaults to True.
    """

    blocks_type = RandomBlocks

    def __init__(
        self,
        token_grid: Sequence[int],
        mask_ratio: float = 0.4,
        window_size: Sequence[int] | None = None,
        min_num_patches: int | None = None,
        max_num_patches: int | None = None,
        min_aspect: float = 0.3,
        seed: int | None = None,
        exact: bool = True,
    ) -> None:
        if not isinstance(exact, bool):
            raise ValueError(f"{type(self).__name__}: exact={exact!r} must be True or False.")
        self.exact = exact
        if not 0 < min_aspect <= 1:
            raise ValueError(f"{type(self).__name__}: min_aspect={min_aspect} is outside (0, 1].")
        self.min_num_patches = min_num_patches
        self.max_num_patches = max_num_patches
        self.min_aspect = min_aspect
        super().__init__(token_grid, mask_ratio, window_size, seed)
        self._blocks: RandomBlocks | None = None
        self._blocks_ratio = 0.0

    @abstractmethod
    def block_grid(self) -> Grid:
        """Return the grid (steps, H'', W'') that is covered with blocks. The mask ratio refers to its places."""

    @abstractmethod
    def default_area(self, total: int) -> tuple[int, int]:
        """Return the default smallest and largest area of a block, if ``total`` places of the block grid are masked."""

    def check_ratio(self, ratio: float) -> None:
        """Check that masks with a ratio can be drawn, see :class:`BaseMaskGenerator`."""
        super().check_ratio(ratio)
        least, greatest = self._area(count_masked(ratio, prod(self.block_grid())))
        if not 1 <= least <= greatest:
            raise ValueError(
                f"{type(self).__name__}: min_num_patches={least} must lie between 1 and max_num_patches={greatest}."
            )

    def draw_blocks(self, rng: np.random.Generator) -> np.ndarray:
        """Draw blocks until they cover the ratio of the block grid.

        Args:
            rng (np.random.Generator): Source of random numbers.

        Returns:
            np.ndarray: bool (steps*H''*W'').
        """
        ratio = self.mask_ratio
        if self._blocks is None or ratio != self._blocks_ratio:
            grid = self.block_grid()
            total = count_masked(ratio, prod(grid))
            self._blocks = self.blocks_type(grid, total, *self._area(total), self.min_aspect, self.exact)
            self._blocks_ratio = ratio
        return self._blocks.cover(rng)

    def _area(self, total: int) -> tuple[int, int]:
        least, greatest = self.default_area(total)
        return (
            max(1, least) if self.min_num_patches is None else self.min_num_patches,
            greatest if self.max_num_patches is None else self.max_num_patches,
        )


@TRANSFORMS.register_module()
class BlockMaskGenerator(_BlockwiseMaskGenerator):
    """Block-wise masks for images (MaskFeat paper): blocks with random area, aspect ratio and place.

    Args:
        token_grid (Sequence[int]): Token grid (H', W').
        min_num_patches (int, optional): Smallest area of a block. Defaults to None: a fifth of the masked tokens.
        max_num_patches (int, optional): Largest area of a block. Defaults to None: all masked tokens.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect``, ``seed`` and ``exact`` of the base class.
    """

    dims = (2,)

    def block_grid(self) -> Grid:
        """Return the window as a grid of one step."""
        return (1, *self.window_size)

    def default_area(self, total: int) -> tuple[int, int]:
        """Return the area of a block: from a fifth of the masked tokens up to all of them."""
        return total // 5, total

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        return self.draw_blocks(rng).reshape(self.window_size)


@TRANSFORMS.register_module()
class TubeMaskGenerator(_BlockwiseMaskGenerator):
    """Block-wise masks in space that are the same at all times, for clips (MaskFeat paper, tube masking).

    Args:
        token_grid (Sequence[int]): Token grid (T', H', W').
        min_num_patches (int, optional): Smallest area of a block. Defaults to None: a fifth of the masked tokens of a
            time step.
        max_num_patches (int, optional): Largest area of a block. Defaults to None: all masked tokens of a time step.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect``, ``seed`` and ``exact`` of the base class.
    """

    dims = (3,)

    def block_grid(self) -> Grid:
        """Return one step of the window."""
        return (1, *self.window_size[1:])

    def default_area(self, total: int) -> tuple[int, int]:
        """Return the area of a block: from a fifth of the masked tokens of a time step up to all of them."""
        return total // 5, total

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        space = self.draw_blocks(rng).reshape(1, *self.window_size[1:])
        return space.repeat(self.window_size[0], axis=0)


@TRANSFORMS.register_module()
class CubeMaskGenerator(_BlockwiseMaskGenerator):
    """Masks of cubes for clips (MaskFeat paper): blocks in space with a random duration.

    Args:
        token_grid (Sequence[int]): Token grid (T', H', W').
        min_num_patches (int, optional): Smallest spatial area of a cube. Defaults to None: a fifth of a time step.
        max_num_patches (int, optional): Largest spatial area of a cube. Defaults to None: a whole time step.
        **kwargs: ``mask_ratio``, ``window_size``, ``min_aspect``, ``seed`` and ``exact`` of the base class.
    """

    dims = (3,)
    blocks_type = RandomCubes

    def block_grid(self) -> Grid:
        """Return the window."""
        return self.window_size

    def default_area(self, total: int) -> tuple[int, int]:
        """Return the spatial area of a cube: from a fifth of a time step up to a whole one."""
        area = self.window_size[1] * self.window_size[2]
        return area // 5, area

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        return self.draw_blocks(rng).reshape(self.window_size)
