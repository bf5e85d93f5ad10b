"""The interface of all target generators."""

from abc import ABCMeta, abstractmethod

import torch
from mmengine.model import BaseModule
from torch import Tensor


class BaseTargetGenerator(BaseModule, metaclass=ABCMeta):
    """Computes, without gradient, what the masked tokens have to predict.

    A subclass implements :meth:`generate`. It never learns the size of the grid from its configuration: the mask has
    it.

    Args:
        patch_size (int): Side of a token in pixels where no mask says it. Defaults to 16.
        temporal_stride (int): Frames that a token covers where no mask says it. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(self, patch_size: int = 16, temporal_stride: int = 2, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.patch_size = patch_size
        self.temporal_stride = temporal_stride

    @torch.no_grad()
    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the target features.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W), floating point.
            mask (Tensor, optional): bool (N, T', H', W'), T' = 1 for images. Defaults to None, every token.

        Returns:
            Tensor: (M, D) for the M masked tokens, row-major over (N, T', H', W'); without a mask (N, L, D).

        Raises:
            ValueError: If the mask's grid does not fit the inputs.
        """
        if mask is not None:
            return self.generate(inputs, mask.bool())
        clip = inputs.dim() == 5
        height, width = inputs.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"target_generator.patch_size={self.patch_size} does not divide the input size "
                f"{(height, width)}; choose a divisor of both."
            )
        grid = (
            inputs.shape[2] // self.temporal_stride if clip else 1,
            height // self.patch_size,
            width // self.patch_size,
        )
        everything = inputs.new_ones((len(inputs), *grid), dtype=torch.bool)
        target = self.generate(inputs, everything)
        return target.view(len(inputs), -1, target.shape[-1])  # (N*L, D) -> (N, L, D)

    @abstractmethod
    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the (M, D) features of the masked tokens; arguments as in :meth:`forward`."""
