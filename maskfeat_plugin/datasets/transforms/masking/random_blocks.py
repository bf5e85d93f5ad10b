"""Grids covered with random blocks. A grid is an integer, and its bits are the places of the grid."""

from bisect import bisect
from collections.abc import Iterator
from itertools import chain
from math import log, prod

import numpy as np

from maskfeat_plugin.ops.grids import Grid

# Number of failed candidates in a row after which single places fill up the rest
_ATTEMPTS = 100
# Number of candidates drawn at a time, because numpy draws a hundred numbers almost as fast as one
_CANDIDATES = 32
# Number of distributions kept: the bound of the area in BEiT has as many values as there are places to cover
_MAX_LAWS = 512

# Converts text to numbers: the fastest way from the bits of an int to an array of a few hundred values
_DIGITS = bytes.maketrans(b"01", b"\0\1")

# The bits of a block in the grid's first corner, the shifts to all places where it fits, and the number of shifts
Size = tuple[int, list[int], int]
# The cumulative probabilities of sizes, the sizes, and the sum of all probabilities (below 1 if some are too large)
Law = tuple[list[float], list[Size], float]


class RandomBlocks:
    """Random cover of a given number of a grid's places with blocks of random area, aspect ratio, duration and place.

    The algorithm is BEiT's (Bao et al., 2022). The area is uniform between two bounds; the upper bound is at most the
    number of places left to cover. The logarithm of the aspect ratio is uniform. The sides are rounded, and a block
    that spans a side of the grid is rejected. A block that covers no new place, or more places than are left, is
    rejected too. When no further block fits, single places fill up the rest, as in ``mmpretrain.BEiTMaskGenerator``.
    With ``exact=False`` the rest stays uncovered, as in the authors' code. A block lasts from 1 step to all steps.

    For speed, the grid is a Python integer with one bit per place: one ``&`` and one ``bit_count`` compute the number
        of
    places that a block adds. The probability of every size comes from a table (:func:`size_probabilities`), so a
    candidate needs two random numbers: one for the size, one for the place.

    Args:
        grid (Grid): (steps, H'', W'').
        total (int): Number of places to cover.
        least (int): Smallest area of a block in space.
        greatest (int): Largest area of a block in space.
        min_aspect (float): Smallest aspect ratio; the largest is its inverse.
        exact (bool): Whether exactly ``total`` places are covered instead of at most ``total``. Defaults to True.
    """

    # number of rejected candidates in a row after which the authors' code ends an inexact mask
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
            rng (np.random.Generator): Source of random numbers.

        Returns:
            np.ndarray: bool (steps*H''*W''). ``total`` places are covered, or at most ``total`` with ``exact=False``.
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
            # a first block fits after some candidates, if any size is possible
            if failures >= self._attempts and (self.exact or remaining < self.total or not sizes):
                break
        mask = self._unpack(free ^ self._everything)
        if remaining and (self.exact or not sizes):
            mask[rng.permutation(np.flatnonzero(~mask))[:remaining]] = True
        return mask

    def greatest_area(self, remaining: int) -> int:
        """Return the largest area of a block if ``remaining`` places are left to cover. BEiT draws no larger one."""
        return min(remaining, self.greatest)

    def law(self, remaining: int) -> Law:
        """Compute the distribution of a candidate's size if ``remaining`` places are left to cover."""
        steps, height, width = self.grid
        bounds = (self.least, self.greatest_area(remaining))
        in_space = size_probabilities((height, width), *bounds, self.min_aspect)
        probabilities = np.tile(in_space / steps, (steps, 1, 1))  # all durations have the same probability
        sides = np.argwhere(probabilities > 0) + 1
        # sizes above the total number of places to cover can never fit, so they are left out
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
            # all lists share the same int objects, because there are many more shifts than places
            shifts = [self._places[corner] for corner in corners[room].ravel().tolist()]
            self._sizes[key] = block, shifts, len(shifts)
        return self._sizes[key]

    def _unpack(self, bits: int) -> np.ndarray:
        """Convert bits to bool (places,), the highest bit first."""
        digits = bytearray(bin(bits | (self._everything + 1)), "ascii")  # 0b1, then all digits with leading zeros
        return np.frombuffer(digits.translate(_DIGITS), bool, len(self._places), 3)


class RandomCubes(RandomBlocks):
    """:class:`RandomBlocks` whose area in space does not depend on the places left: a cube may be large and short."""

    last_attempts = 100

    def greatest_area(self, remaining: int) -> int:
        """Return the largest area of a cube in space."""
        return self.greatest

    def law(self, remaining: int) -> Law:
        """Return the distribution of a cube's size. It does not depend on ``remaining``."""
        found = next(iter(self._laws.values()), None)
        if found is None:
            return super().law(remaining)
        self._laws[remaining] = found
        return found


def _more_pairs(rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yield pairs of uniform random numbers without end."""
    while True:
        numbers = iter(rng.random(2 * _CANDIDATES).tolist())
        yield from zip(numbers, numbers, strict=True)


def size_probabilities(grid: tuple[int, int], least: float, greatest: float, min_aspect: float) -> np.ndarray:
    """Compute the probability of each size of a block with uniform area A and uniform log aspect ratio s.

    The sides are sqrt(A exp(s)) and sqrt(A exp(-s)), rounded, at least 1. The probability of a pair of sides is the
    area of the part of the (A, s) plane that rounds to that pair. It is computed by differences of the function
    :func:`_area`.

    Args:
        grid (tuple[int, int]): (H, W). Sides of H or W and more are left out, so the sum can be below 1.
        least (float): Smallest area A.
        greatest (float): Largest area A. It may be below ``least``.
        min_aspect (float): exp(s) is between this value and its inverse.

    Returns:
        np.ndarray: float64 (H - 1, W - 1). Element [h - 1, w - 1] is for blocks of h x w.
    """
    low, high = sorted((least, greatest))
    high = max(high, low * (1 + 1e-6))  # a single area, or a single aspect ratio, becomes a narrow range
    bound = max(-log(min_aspect), 1e-6)
    # the sides at which the rounding changes; a side below 1.5 counts as 1
    heights, widths = (np.array([1e-6, *np.arange(1.5, side)]) for side in grid)
    below = [_area(heights[:, None], widths[None], limit, bound) for limit in (low, high)]
    inside = np.diff(np.diff(below[1] - below[0], axis=0), axis=1) / (2 * bound * (high - low))
    return np.where(inside > 1e-9, inside, 0.0)  # rounding errors of the differences


def _area(height: np.ndarray, width: np.ndarray, limit: float, bound: float) -> np.ndarray:
    """Integrate the minimum of height^2 exp(-s), width^2 exp(s) and the limit over s from -bound to bound."""
    meet = np.log(width**-1 * height)  # the s at which the two curves cross
    flat = limit < height * width  # whether the limit is below the crossing
    rises = np.where(flat, np.log(limit / width**2), meet).clip(-bound, bound)
    falls = np.where(flat, np.log(height**2 / limit), meet).clip(-bound, bound)
    edge = np.exp(-bound)
    return width**2 * (np.exp(rises) - edge) + limit * (falls - rises) + height**2 * (np.exp(-falls) - edge)
