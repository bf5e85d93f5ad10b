"""Grids covered with random blocks, as whole numbers whose bits are the places."""

from bisect import bisect
from collections.abc import Iterator
from itertools import chain
from math import log, prod

import numpy as np

from maskfeat_plugin.ops.grids import Grid

# Candidates in a row that may fail to fit before single places fill up the rest.
_ATTEMPTS = 100
# Candidates drawn at a time, because numpy draws a hundred numbers almost as fast as one.
_CANDIDATES = 32
# Laws kept: BEiT's bound of the area takes as many values as there are places to cover.
_MAX_LAWS = 512

# Text to numbers: the fastest way from the bits of an int to an array of a few hundred
_DIGITS = bytes.maketrans(b"01", b"\0\1")

# The bits of a block in the grid's first corner, the shifts that move it to every place that it fits, their number
Size = tuple[int, list[int], int]
# Probabilities of sizes, summed up; the sizes; the sum of all, less than 1 where some are too large
Law = tuple[list[float], list[Size], float]


class RandomBlocks:
    """Covers a number of a grid's places with blocks of random area, aspect ratio, duration and place.

    BEiT's algorithm (Bao et al., 2022): the area is uniform between two bounds, the greatest no larger than what is
    left to cover; the logarithm of the aspect ratio is uniform; the sides are rounded, and a block that spans a side of
    the grid is not taken. Neither is one that covers nothing new or more than is left. When no further block fits,
    single places fill up the rest, as in ``mmpretrain.BEiTMaskGenerator``; with ``exact=False`` nothing does, as in the
    authors' code. A block lasts from 1 to all of the steps.

    To be fast, the grid is a Python integer, one bit a place: what a block adds is one ``&`` and one ``bit_count``.
    The probability of every size comes from a table (:func:`size_probabilities`), so that a candidate takes two random
    numbers: one for the size, one for the place.

    Args:
        grid (Grid): (steps, H'', W'').
        total (int): Places to cover.
        least (int): Least area of a block in space.
        greatest (int): Greatest area of a block in space.
        min_aspect (float): Least aspect ratio; the greatest is its inverse.
        exact (bool): Whether exactly ``total`` places are covered; otherwise at most these. Defaults to True.
    """

    # candidates in a row that the authors' code refuses before it ends an inexact mask
    last_attempts = 10

    def __init__(
        self, grid: Grid, total: int, least: int, greatest: int, min_aspect: float, exact: bool = True
    ) -> None:
        self.grid = grid
        self.total = total
        self.least = least
        self.greatest = greatest
        self.min_aspect = min_aspect
        self.exact = exact
        self._attempts = _ATTEMPTS if exact else self.last_attempts
        self._places = list(range(prod(grid)))
        self._everything = (1 << len(self._places)) - 1
        self._laws: dict[int, Law] = {}
        self._sizes: dict[Grid, Size] = {}

    def cover(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the covered places.

        Args:
            rng (np.random.Generator): Source of randomness.

        Returns:
            np.ndarray: bool (steps*H''*W''), ``total`` of the places covered, or at most as many with
                ``exact=False``.
        """
        numbers = iter(rng.random(2 * _CANDIDATES).tolist())
        candidates = chain(zip(numbers, numbers, strict=True), _more_pairs(rng))
        free, remaining, failures = self._everything, self.total, 0
        laws = self._laws
        cumulative, sizes, fitting = laws.get(remaining) or self.law(remaining)
        for which, where in candidates:
            if which < fitting:
                block, shifts, count = sizes[bisect(cumulative, which)]
                new = block << shifts[int(where * count)] & free
                added = new.bit_count()
                if remaining >= added > 0:
                    free ^= new
                    remaining -= added
                    if not remaining:
                        break
                    cumulative, sizes, fitting = laws.get(remaining) or self.law(remaining)
                    failures = 0
                    continue
            failures += 1
            # a first block fits at some time, if there are any
            if failures >= self._attempts and (self.exact or remaining < self.total or not sizes):
                break
        mask = self._unpack(free ^ self._everything)
        if remaining and (self.exact or not sizes):
            mask[rng.permutation(np.flatnonzero(~mask))[:remaining]] = True
        return mask

    def greatest_area(self, remaining: int) -> int:
        """Bound of a block's area when ``remaining`` places are left to cover: BEiT draws no larger one."""
        return min(remaining, self.greatest)

    def law(self, remaining: int) -> Law:
        """Distribution of the size of a candidate when ``remaining`` places are left to cover."""
        steps, height, width = self.grid
        bounds = (self.least, self.greatest_area(remaining))
        in_space = size_probabilities((height, width), *bounds, self.min_aspect)
        probabilities = np.tile(in_space / steps, (steps, 1, 1))  # any duration is as likely
        sides = np.argwhere(probabilities > 0) + 1
        # what is larger than all that is to be covered will never do, and need not be tried to fail
        sides = sides[sides.prod(1) <= self.total]
        cumulative = probabilities[tuple(sides.T - 1)].cumsum().tolist() or [0.0]
        sizes = [self._size(t, h, w) for t, h, w in sides.tolist()]
        if len(self._laws) == _MAX_LAWS:
            self._laws.clear()
        self._laws[remaining] = cumulative, sizes, cumulative[-1]
        return self._laws[remaining]

    def _size(self, steps: int, height: int, width: int) -> Size:
        key = (steps, height, width)
        if key not in self._sizes:
            _, rows, columns = self.grid
            row = (1 << width) - 1
            step = sum(row << i * columns for i in range(height))
            block = sum(step << t * rows * columns for t in range(steps))
            corners = np.arange(len(self._places)).reshape(self.grid)
            room = tuple(slice(g - n + 1) for g, n in zip(self.grid, key, strict=True))
            # all lists hold the same int objects: there are many more shifts than places
            shifts = [self._places[corner] for corner in corners[room].ravel().tolist()]
            self._sizes[key] = block, shifts, len(shifts)
        return self._sizes[key]

    def _unpack(self, bits: int) -> np.ndarray:
        """Bits as bool (places,), the highest first."""
        digits = bytearray(bin(bits | (self._everything + 1)), "ascii")  # 0b1 and then all digits, leading zeros too
        return np.frombuffer(digits.translate(_DIGITS), bool, len(self._places), 3)


class RandomCubes(RandomBlocks):
    """:class:`RandomBlocks` whose area in space is not bounded by what is left: a cube may be large and short."""

    last_attempts = 100

    def greatest_area(self, remaining: int) -> int:
        """Bound of a cube's area in space."""
        return self.greatest

    def law(self, remaining: int) -> Law:
        """Distribution of a cube's size, the same at all times."""
        found = next(iter(self._laws.values()), None)
        if found is None:
            return super().law(remaining)
        self._laws[remaining] = found
        return found


def _more_pairs(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Pairs of uniform random numbers, without end."""
    while True:
        numbers = iter(rng.random(2 * _CANDIDATES).tolist())
        yield from zip(numbers, numbers, strict=True)


def size_probabilities(grid: tuple[int, int], least: float, greatest: float, min_aspect: float) -> np.ndarray:
    """How often a block has which sides, of a random area A, uniform, and a log aspect ratio s, uniform.

    The sides are sqrt(A exp(s)) and sqrt(A exp(-s)), rounded, at least 1. The probability of a pair of sides is the
    area of the part of the (A, s) plane that is rounded to it, found by differences of the area below, :func:`_area`.

    Args:
        grid (tuple[int, int]): (H, W); sides of H or W and more are left out, so that the sum may be less than 1.
        least (float): Least area A.
        greatest (float): Greatest area A; the bounds may be the other way round.
        min_aspect (float): exp(s) lies between this and its inverse.

    Returns:
        np.ndarray: float64 (H - 1, W - 1), [h - 1, w - 1] for blocks of h x w.
    """
    low, high = sorted((least, greatest))
    high = max(high, low * (1 + 1e-6))  # one area, or one aspect ratio, as a narrow range
    bound = max(-log(min_aspect), 1e-6)
    # the sides at which the rounding changes; what is below 1.5 counts as 1
    heights, widths = (np.array([1e-6, *np.arange(1.5, side)]) for side in grid)
    below = [_area(heights[:, None], widths[None], limit, bound) for limit in (low, high)]
    inside = np.diff(np.diff(below[1] - below[0], axis=0), axis=1) / (2 * bound * (high - low))
    return np.where(inside > 1e-9, inside, 0.0)  # rounding errors of the differences


def _area(height: np.ndarray, width: np.ndarray, limit: float, bound: float) -> np.ndarray:
    """Integral over s from -bound to bound of the least of height^2 exp(-s), width^2 exp(s) and the limit."""
    meet = np.log(width**-1 * height)  # where the two curves cross
    flat = limit < height * width  # the limit cuts them off before
    rises = np.where(flat, np.log(limit / width**2), meet).clip(-bound, bound)
    falls = np.where(flat, np.log(height**2 / limit), meet).clip(-bound, bound)
    edge = np.exp(-bound)
    return width**2 * (np.exp(rises) - edge) + limit * (falls - rises) + height**2 * (np.exp(-falls) - edge)
