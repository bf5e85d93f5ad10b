"""The interface of all target generators, and the base class of generators that also work without a mask."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..utils import TokenPlaces


class TargetGenerator(BaseModule, metaclass=ABCMeta):
    """Base class of modules that compute, without gradients, the target of the masked tokens.

    A subclass implements :meth:`generate`. It reads the size of the grid from the mask, not from its configuration. A
    target is one row of features per token, or one class per token.

    Args:
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    # Number of classes if the target is classes or class distributions; the neck must have as many outputs. With
    # several targets, the numbers by name
    num_classes: int | dict[str, int | None] | None = None

    def connect(self, model: nn.Module) -> None:
        """Read the properties of the whole model that the target needs, such as the normalisation of its inputs.

        :class:`MaskFeat` calls it once, when all parts of the model are built. Most targets need nothing.

        Args:
            model (nn.Module): The model, with ``backbone`` and ``data_preprocessor``.
        """

    @torch.no_grad()
    def forward(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        places: TokenPlaces | None = None,
    ) -> Tensor:
        """Compute the target.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W), floating point.
            mask (Tensor, optional): bool (N, T', H', W'), with T' = 1 for images. Defaults to None: all tokens of
                :meth:`whole_grid`.
            data_samples (Sequence[BaseDataElement], optional): Samples of the batch, for targets that are part of the
                data. Defaults to None.
            places (TokenPlaces, optional): The masked tokens, if all samples mask equally many. Defaults to None: not
                known.

        Returns:
            Tensor: Features (M, D), floating point, or classes (M,), int64, of the M masked tokens, row-major over (N,
                T', H', W'). Without a mask, (N, L, D) or (N, L).

        Raises:
            ValueError: If the mask's grid does not fit the inputs, or there is no mask and the target has no grid.
        """
        if mask is not None:
            mask = mask.bool()
            return self.generate(inputs, mask) if places is None else self.generate_at(inputs, mask, places)
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
            ValueError: Always, because this target has no grid without a mask.
        """
        raise ValueError(
            f"{type(self).__name__} has no token grid of its own, but was called without a mask. Use it in "
            "maskfeat.MaskFeat, or use maskfeat.HOGGenerator with patch_size instead."
        )

    @abstractmethod
    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the (M, D) features or (M,) classes of the masked tokens; arguments as in :meth:`forward`."""

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Compute the target of masked tokens whose places are known.

        A target overrides it if it can do so without values of the mask on the host.

        Args: as in :meth:`forward`.

        Returns:
            Tensor: As :meth:`generate`, which is the default.
        """
        return self.generate(inputs, mask)


class BaseTargetGenerator(TargetGenerator):
    """Base class of target generators that also work without a mask, because ``mmpretrain.MaskFeat`` passes none.

    Args:
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(self, patch_size: int = 16, temporal_stride: int = 2, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        self.patch_size = patch_size
        self.temporal_stride = temporal_stride

    def whole_grid(self, inputs: Tensor) -> Tensor:
        """Return a mask of every token, on the grid given by ``patch_size`` and ``temporal_stride``.

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
