"""The masked or the visible tokens of a grid, and the way between them and the whole grid."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from maskfeat_plugin.ops.grids import Grid

from .token_grid import expand_mask


@dataclass(frozen=True)
class TokenPlaces:
    """Places of selected tokens on one grid, the same number in each sample.

    Args:
        grid (Grid): (T, H, W), with L = T*H*W.
        index (Tensor): int64 (N, K): ascending indices of the K selected tokens of each sample among the L tokens.
    """

    grid: Grid
    index: Tensor

    @property
    def num_tokens(self) -> int:
        """Return the number L of all tokens of the grid."""
        return prod(self.grid)

    @property
    def flat_index(self) -> Tensor:
        """Return the places among all tokens of the batch, int64 (N*K,)."""
        first = torch.arange(len(self.index), device=self.index.device) * self.num_tokens
        return (self.index + first[:, None]).flatten()

    def on_grid(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return sample, time step, row and column of each token.

        Returns:
            tuple[Tensor, Tensor, Tensor, Tensor]: int64 (N*K,) each; they index (N, T, H, W, ...).
        """
        index = self.index.flatten()
        sample = torch.arange(len(self.index), device=index.device)[:, None].expand_as(self.index).flatten()
        row, column = index // self.grid[2], index % self.grid[2]
        return sample, row // self.grid[1], row % self.grid[1], column

    def in_frames(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return frame, row and column of each token.

        Returns:
            tuple[Tensor, Tensor, Tensor]: int64 (N*K,) each; they index the frames of all samples, (N*T, H, W, ...).
        """
        sample, time, row, column = self.on_grid()
        return sample * self.grid[0] + time, row, column

    def gather(self, x: Tensor) -> Tensor:
        """Select the tokens from all tokens.

        Args:
            x (Tensor): All tokens (N, L, C).

        Returns:
            Tensor: (N, K, C).
        """
        # rows of a matrix are copied faster than elements of a tensor
        return x.flatten(0, 1).index_select(0, self.flat_index).unflatten(0, tuple(self.index.shape))

    def gather_heads(self, x: Tensor) -> Tensor:
        """Select the tokens from all tokens of each head.

        Args:
            x (Tensor): All tokens (N, num_heads, L, C).

        Returns:
            Tensor: (N, num_heads, K, C).
        """
        return self.gather(x.transpose(1, 2).flatten(2)).unflatten(2, (x.shape[1], -1)).transpose(1, 2)

    def scatter(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Put the selected tokens back on the grid; the inverse of :meth:`gather`.

        Args:
            x (Tensor): The selected tokens (N, K, C).
            fill (float): Value of all other tokens. Defaults to 0.0.

        Returns:
            Tensor: (N, L, C).
        """
        size = (len(x), self.num_tokens)
        whole = x.new_full((size[0] * size[1], x.shape[2]), fill)
        return whole.index_copy(0, self.flat_index, x.flatten(0, 1)).unflatten(0, size)


def masked_places(mask: Tensor) -> TokenPlaces | None:
    """Find the masked tokens of a batch.

    The host waits for the device of the mask. Data preprocessors therefore call this for masks on the host.

    Args:
        mask (Tensor): bool (N, T', H', W'), True where a token is masked.

    Returns:
        TokenPlaces | None: The masked tokens. None if the samples mask different numbers of tokens, or none.
    """
    flat = mask.flatten(1)
    least, most = torch.stack(flat.sum(1).aminmax()).tolist()
    if least != most or not most:
        return None
    index = flat.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return TokenPlaces(tuple(mask.shape[1:]), index)


def select_tokens(x: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
    """Select the masked tokens of all tokens.

    Args:
        x (Tensor): All tokens (N, L, C).
        mask (Tensor): bool (N, T', H', W'), True where a token is masked.
        places (TokenPlaces, optional): The masked tokens, if all samples mask equally many. With them the shape of the
            result is known without a look at the mask. None: the host waits for the mask.

    Returns:
        Tensor: (M, C), sample by sample, row by row.
    """
    return x[mask.flatten(1)] if places is None else places.gather(x).flatten(0, 1)


def mean_visible(x: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean of the visible tokens of each sample, without values of the mask on the host.

    Args:
        x (Tensor): All tokens (N, L, C).
        mask (Tensor): bool (N, T', H', W'), True where a token is masked.

    Returns:
        Tensor: (N, C). Zero for a sample without visible tokens.
    """
    visible = (~mask.bool()).flatten(1)  # (N, L)
    shares = visible / visible.sum(1, keepdim=True).clamp(min=1)
    return (shares.to(x.dtype).unsqueeze(1) @ x).squeeze(1)


class VisibleUnits:
    """Mask of whole units, on every grid that the units divide.

    Args:
        mask (Tensor): bool (N, T', H', W'), one element a unit, True where masked.
        num_masked (int, optional): Masked units of each sample. Defaults to None: they are counted, for which the host
            waits for the device.

    Raises:
        ValueError: If the samples mask different numbers of units, or all of them.
    """

    def __init__(self, mask: Tensor, num_masked: int | None = None) -> None:
        self.mask = mask
        if num_masked is None:
            least, most = torch.stack(mask.flatten(1).sum(1).aminmax()).tolist()
        else:
            least = most = num_masked
        if least != most:
            raise ValueError(
                f"The masks of this batch cover from {least} to {most} places, but an encoder of the visible tokens "
                "needs the same number in each sample. Use a mask generator that masks an exact number "
                "(maskfeat.RandomMaskGenerator, BlockMaskGenerator, TubeMaskGenerator or CubeMaskGenerator)."
            )
        self.num_visible = mask[0].numel() - most
        if not self.num_visible:
            raise ValueError("The masks cover every token. Lower the mask_ratio of the pipeline's mask generator.")
        self._tokens: dict[Grid, TokenPlaces] = {}

    def tokens(self, grid: Grid) -> TokenPlaces:
        """Return the visible tokens of a grid.

        Args:
            grid (Grid): (T, H, W), a multiple of the units' grid.

        Returns:
            TokenPlaces: The places of the visible tokens.

        Raises:
            ValueError: If the grid is not a multiple of the units' grid.
        """
        grid = tuple(grid)
        if grid not in self._tokens:
            masked = expand_mask(self.mask, grid)  # (N, L)
            kept = self.num_visible * (prod(grid) // self.mask[0].numel())
            index = masked.to(torch.uint8).argsort(dim=1, stable=True)[:, :kept]
            self._tokens[grid] = TokenPlaces(grid, index)
        return self._tokens[grid]
