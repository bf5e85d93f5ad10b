"""Masks whose places are drawn independently."""

from math import prod
from typing import Any

import numpy as np

from maskfeat_plugin.registry import TRANSFORMS

from .base import BaseMaskGenerator


@TRANSFORMS.register_module()
class RandomMaskGenerator(BaseMaskGenerator):
    """Masks of single random tokens, for images and clips.

    This is MAE's random masking (He et al., 2022). Each sample has its own permutation, and the first places of the
    permutation are masked. So all samples of all batches have the same number of masked tokens, and an encoder of the
    visible tokens gets the same number from each sample.
    """

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        mask = np.zeros(prod(self.window_size), bool)
        mask[rng.permutation(mask.size)[: self.num_masked(mask.size)]] = True
        return mask.reshape(self.window_size)


@TRANSFORMS.register_module()
class FrameMaskGenerator(BaseMaskGenerator):
    """Masks of an exact number of whole time steps, for clips (MaskFeat paper, frame masking)."""

    dims = (3,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.window_size[0] < 2:
            raise ValueError("FrameMaskGenerator: a grid of one time step cannot be masked in part.")

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        steps = self.window_size[0]
        mask = np.zeros(self.window_size, bool)
        mask[rng.permutation(steps)[: self.num_masked(steps)]] = True
        return mask
