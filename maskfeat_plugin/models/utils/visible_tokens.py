"""Some tokens of a grid, those that a mask leaves visible or hides, and the way between them and the whole grid."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from maskfeat_plugin.ops.grids import Grid

from .token_grid import expand_mask


@dataclass(frozen=True)
class TokenPlaces:
    """Places of some tokens on one grid, equally many in each sample.

    Args:
        grid (Grid): (T, H, W), L = T*H*W.
        index (Tensor): int64 (N, K), places of the K tokens of each sample among the L, ascending.
    """

    grid: Grid
    index: Tensor

    @property
    def num_tokens(self) -> int:
        """All tokens L of the grid."""
        return prod(self.grid)

    @property
    def _rows(self) -> Tensor:
        """Places in the batch (N*K,): rows of a matrix are copied faster than elements of a tensor."""
        first = torch.arange(len(self.index), device=self.index.device) * self.num_tokens
        return (self.index + first[:, None]).flatten()

    def gather(self, x: Tensor) -> Tensor:
        """Keep these tokens.

        Args:
            x (Tensor): All tokens (N, L, C).

        Returns:
            Tensor: (N, K, C).
        """
        return x.flatten(0, 1).index_select(0, self._rows).unflatten(0, tuple(self.index.shape))

    def gather_heads(self, x: Tensor) -> Tensor:
        """Keep these tokens of each head.

        Args:
            x (Tensor): All tokens (N, num_heads, L, C).

        Returns:
            Tensor: (N, num_heads, K, C).
        """
        return self.gather(x.transpose(1, 2).flatten(2)).unflatten(2, (x.shape[1], -1)).transpose(1, 2)

    def scatter(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Put these tokens back on the grid; undoes :meth:`gather`.

        Args:
            x (Tensor): These tokens (N, K, C).
            fill (float): Value of all others. Defaults to 0.0.

        Returns:
            Tensor: (N, L, C).
        """
        size = (len(x), self.num_tokens)
        whole = x.new_full((size[0] * size[1], x.shape[2]), fill)
        return whole.index_copy(0, self._rows, x.flatten(0, 1)).unflatten(0, size)


def masked_places(mask: Tensor) -> TokenPlaces | None:
    """Where a mask hides tokens.

    Args:
        mask (Tensor): bool (N, T', H', W'), True where a token is masked.

    Returns:
        TokenPlaces | None: The masked tokens; None if the samples hide different numbers, or none.
    """
    flat = mask.flatten(1)
    least, most = torch.stack(flat.sum(1).aminmax()).tolist()
    if least != most or not most:
        return None
    index = flat.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return TokenPlaces(tuple(mask.shape[1:]), index)


class VisibleUnits:
    """A mask of whole units, on every grid that divides into them.

    Args:
        mask (Tensor): bool (N, T', H', W'), one element a unit, True where masked.

    Raises:
        ValueError: If the samples hide different numbers of units, or all of them.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        counts = mask.flatten(1).sum(1)
        least, most = torch.stack(counts.aminmax()).tolist()
        if least != most:
            raise ValueError(
                f"The masks of this batch hide from {least} to {most} places; an encoder of the visible tokens needs "
                "equally many in each sample. Use a mask generator of the pipeline that hides an exact number "
                "(maskfeat.RandomMaskGenerator, BlockMaskGenerator, TubeMaskGenerator or CubeMaskGenerator)."
            )
        self.num_visible = mask[0].numel() - most
        if not self.num_visible:
            raise ValueError("The masks hide every token; lower the mask_ratio of the pipeline's mask generator.")
        self._tokens: dict[Grid, TokenPlaces] = {}

    def tokens(self, grid: Grid) -> TokenPlaces:
        """Visible tokens of a grid.

        Args:
            grid (Grid): (T, H, W), a multiple of the units' grid.

        Returns:
            TokenPlaces: Their places.

        Raises:
            ValueError: If the grid is no multiple.
        """
        grid = tuple(grid)
        if grid not in self._tokens:
            masked = expand_mask(self.mask, grid)  # (N, L)
            kept = self.num_visible * (prod(grid) // self.mask[0].numel())
            index = masked.to(torch.uint8).argsort(dim=1, stable=True)[:, :kept]
            self._tokens[grid] = TokenPlaces(grid, index)
        return self._tokens[grid]
