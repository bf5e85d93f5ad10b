"""Masks drawn patch by patch in plain Python, as the peer of the mask generators."""

import math
import random

import numpy as np


def cubes_by_loops(grid: tuple[int, int, int], mask_ratio: float, min_aspect: float = 0.3) -> np.ndarray:
    """Draw the same kind of mask as ``CubeMaskGenerator``, patch by patch in plain Python.

    Args:
        grid (tuple[int, int, int]): Token grid (T, H, W).
        mask_ratio (float): Share of masked tokens.
        min_aspect (float): Smallest aspect ratio. The largest is its inverse. Defaults to 0.3.

    Returns:
        np.ndarray: The mask, bool (T, H, W).
    """
    steps, height, width = grid
    mask = [[[False] * width for _ in range(height)] for _ in range(steps)]
    left = round(mask_ratio * steps * height * width)
    failures = 0
    while left and failures < 100:
        failures += 1
        area = random.uniform(height * width // 5, height * width)
        aspect = math.exp(random.uniform(math.log(min_aspect), -math.log(min_aspect)))
        size = (random.randint(1, steps), round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect)))
        if size[1] >= height or size[2] >= width:
            continue
        start = [random.randint(0, side - length) for side, length in zip(grid, size, strict=True)]
        frames, rows, columns = (range(first, first + length) for first, length in zip(start, size, strict=True))
        new = 0
        for t in frames:
            for i in rows:
                for j in columns:
                    if not mask[t][i][j]:
                        new += 1
        if 0 < new <= left:
            for t in frames:
                for i in rows:
                    for j in columns:
                        mask[t][i][j] = True
            left -= new
            failures = 0
    free = [(t, i, j) for t in range(steps) for i in range(height) for j in range(width) if not mask[t][i][j]]
    for t, i, j in random.sample(free, left):
        mask[t][i][j] = True
    return np.array(mask)
