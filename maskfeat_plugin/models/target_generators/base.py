"""The interface of all target generators, and of those that work without a mask."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


class TargetGenerator(BaseModule, metaclass=ABCMeta):
    """Computes, without gradient, what the masked tokens have to predict.

    A subclass implements :meth:`generate`. It never learns the size of the grid from its configuration: the mask has
    it. A target is a row of features a token, or one class a token.

    Args:
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    # Of a target of classes or distributions over them, which the neck has to have; of several targets by name
    num_classes: int | dict[str, int | None] | None = None

    def connect(self, model: nn.Module) -> None:
        """Learn what the target needs to know of the whole model, such as how it normalises its inputs.

        :class:`MaskFeat` calls it once, when all its parts are built. Most targets need nothing.

        Args:
            model (nn.Module): The model, with ``backbone`` and ``data_preprocessor``.
        """

    @torch.no_grad()
    def forward(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
    ) -> Tensor:
        """Compute the target.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W), floating point.
            mask (Tensor, optional): bool (N, T', H', W'), T' = 1 for images. Defaults to None, every token of
                :meth:`whole_grid`.
            data_samples (Sequence[BaseDataElement], optional): Samples of the batch, for targets that come with the
                data. Defaults to None.

        Returns:
            Tensor: Features (M, D), floating point, or classes (M,), int64, of the M masked tokens, row-major over (N,
                T', H', W'); without a mask (N, L, D) or (N, L).

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or is missing where the target has no grid.
        """
        if mask is not None:
            return self.generate(inputs, mask.bool())
        everything = self.whole_grid(inputs)
        target = self.generate(inputs, everything)
        return target.view(len(inputs), -1, *target.shape[1:])  # (N*L, ...) -> (N, L, ...)

    def whole_grid(self, inputs: Tensor) -> Tensor:
        """Return a mask of every token, for inputs that come without a mask.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: bool (N, T', H', W'), all True.

        Raises:
            ValueError: Always: this target knows no grid but that of the mask.
        """
        raise ValueError(
            f"{type(self).__name__} has no token grid of its own, and was called without a mask. Use it in "
            "maskfeat.MaskFeat, or maskfeat.HOGGenerator with patch_size in its place."
        )

    @abstractmethod
    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the (M, D) features or (M,) classes of the masked tokens; arguments as in :meth:`forward`."""


class BaseTargetGenerator(TargetGenerator):
    """Target generator that works without a mask too, on a grid of its own, as ``mmpretrain.MaskFeat`` calls it.

    Args:
        patch_size (int): Side of a token in pixels where no mask says it. Defaults to 16.
        temporal_stride (int): Frames that a token covers where no mask says it. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(self, patch_size: int = 16, temporal_stride: int = 2, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.patch_size = patch_size
        self.temporal_stride = temporal_stride

    def whole_grid(self, inputs: Tensor) -> Tensor:
        """Return a mask of every token, on the grid of ``patch_size`` and ``temporal_stride``.

        Args:
            inputs (Tensor): Images (N, C, H, W) or clips (N, C, T, H, W).

        Returns:
            Tensor: bool (N, T', H', W'), all True.

        Raises:
            ValueError: If ``patch_size`` does not divide the input size.
        """
        clip = inputs.dim() == 5
        height, width = inputs.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"patch_size={self.patch_size} does not divide the input size {(height, width)}; choose a "
                "divisor of both."
            )
        grid = (
            inputs.shape[2] // self.temporal_stride if clip else 1,
            height // self.patch_size,
            width // self.patch_size,
        )
        return inputs.new_ones((len(inputs), *grid), dtype=torch.bool)
