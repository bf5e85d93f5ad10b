"""Wrapper for target generators of other packages, which take no mask and compute the features of every token."""

import inspect

import torch
from torch import Tensor, nn

from ..utils import TokenPlaces, foreign_call, frames_of_tokens, select_tokens, token_size
from .base import TargetGenerator


class WholeGridGenerator(TargetGenerator):
    """Wrapper that gives any target generator for whole images, such as ``mmpretrain.HOGGenerator``, a mask.

    The generator computes the target of every token, and the masked ones are kept. For clips it gets the first frame of
    each token, one image after the other.

    Args:
        generator (nn.Module): Module that takes images (N, C, H, W) and returns features (N, H'*W', D).
    """

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the target of every token, and keep the masked ones.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: (M, D), row-major.

        Raises:
            ValueError: If the generator fails, or returns the features of another grid.
        """
        return self._features(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the target of every token, and keep the masked ones, see :meth:`generate`."""
        return self._features(inputs, mask, places)

    def _features(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        frames_per_token, *_ = token_size(inputs, mask)
        frames = frames_of_tokens(inputs, frames_per_token)  # (N, T', C, H, W)
        images, wanted = frames.flatten(0, 1), mask[0, 0].numel()
        fits = (
            f"It must take images (N, C, H, W) and return (N, {wanted}, D) for the token grid "
            f"{tuple(mask.shape[2:])}. mmpretrain.HOGGenerator does so only for grids of 14 x 14. Use "
            "maskfeat.HOGGenerator, which works for any grid."
        )
        with foreign_call(type(self).__name__, self.generator, fits):
            target = self.generator(images)  # (N*T', H'*W', D)
            if not isinstance(target, Tensor) or target.shape[:2] != (len(images), wanted):
                found = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
                raise TypeError(f"returned {found}")
        return select_tokens(target.unflatten(0, frames.shape[:2]).flatten(1, 2), mask, places)


def as_target_generator(module: nn.Module) -> nn.Module:
    """Return a target generator that takes ``(inputs, mask, data_samples)``.

    Args:
        module (nn.Module): A target generator of this or another package.

    Returns:
        nn.Module: The module itself if it takes these three arguments, else a :class:`WholeGridGenerator` around it.
    """
    try:
        inspect.signature(module.forward).bind(*(torch.empty(0),) * 3)
    except TypeError:
        return WholeGridGenerator(module)
    return module
