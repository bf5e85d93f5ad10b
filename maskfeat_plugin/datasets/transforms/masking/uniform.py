"""Masks of places that are drawn one by one."""

from math import prod
from typing import Any

import numpy as np

from maskfeat_plugin.registry import TRANSFORMS

from .base import BaseMaskGenerator


@TRANSFORMS.register_module()
class RandomMaskGenerator(BaseMaskGenerator):
    """Each token on its own; for images and clips.

    MAE's random masking (He et al., 2022): every sample has a permutation of its own, of which the first places are
    masked, so that all samples, and all batches, hide equally many, and an encoder of the visible tokens has equally
    many of each sample.
    """

    def generate(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one mask, see :class:`BaseMaskGenerator`."""
        mask = np.zeros(prod(self.window_size), bool)
        mask[rng.permutation(mask.size)[: self.num_masked(mask.size)]] = True
        return mask.reshape(self.window_size)


@TRANSFORMS.register_module()
class FrameMaskGenerator(BaseMaskGenerator):
    """Whole time steps, an exact number of them (MaskFeat paper, frame masking); for clips."""

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
