"""Features of a moving average of the model itself."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel, ExponentialMovingAverage
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, select_tokens
from .base import BaseTargetGenerator
from .frozen import DetachedModule


@MODELS.register_module()
class SelfTeacherGenerator(BaseTargetGenerator):
    """Target generator of features that a moving average of the backbone computes from the unmasked input (data2vec).

    The masked tokens' features of each of the last ``num_layers`` blocks are layer-normalised. Their mean is the
    target. The loss is ``maskfeat.MaskedLoss`` of the kind ``smooth_l1`` or ``mse``. The moving average starts with the
    weights of the first training step and is updated before every forward pass of training. Checkpoints include it.

    Args:
        momentum (float): Share of the moving average that is kept at each update, between 0 and 1. Defaults to 0.999.
        num_layers (int): Number of the last blocks to average. Defaults to 1.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        momentum: float = 0.999,
        num_layers: int = 1,
        patch_size: int = 16,
        temporal_stride: int = 2,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        if not 0 < momentum < 1:
            raise ValueError(f"momentum must be between 0 and 1, got {momentum!r}.")
        if num_layers < 1:
            raise ValueError(f"num_layers must be positive, got {num_layers!r}.")
        self.momentum = momentum
        self.num_layers = num_layers

    def connect(self, model: BaseModel) -> None:
        """Create the moving average of the model's backbone, see the parent.

        Raises:
            ValueError: If the backbone has fewer blocks than ``num_layers``.
        """
        blocks = _blocks(model.backbone)
        if len(blocks) < self.num_layers:
            raise ValueError(
                f"num_layers={self.num_layers}, the model's backbone ({type(model.backbone).__name__}) has "
                f"{len(blocks)} blocks in 'layers' or 'blocks'; set num_layers to that or fewer."
            )
        average = ExponentialMovingAverage(model.backbone, momentum=1 - self.momentum)
        self.teacher = DetachedModule(average, in_checkpoint=True, on_host=("steps",))
        # not by nn.Module.__setattr__: the backbone is a child of the model already
        object.__setattr__(self, "student", model.backbone)

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Update the moving average in training, and compute its features of the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, D).

        Raises:
            ValueError: If the mask's grid does not fit the backbone's, or the last blocks differ in channels.
        """
        return self._features(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Update the moving average in training, and compute its features, see :meth:`generate`."""
        return self._features(inputs, mask, places)

    def _features(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        average = self.teacher.network
        if self.training:
            average.update_parameters(self.student)
        # before the first update the average has no weights of its own
        network = average.module if average.steps else self.student
        visible = torch.zeros_like(mask)
        outputs: list[Tensor] = []

        def keep(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            outputs.append(output if isinstance(output, Tensor) else output[0])  # a block of MViT also returns its grid

        hooks = [block.register_forward_hook(keep) for block in _blocks(network)[-self.num_layers :]]
        try:
            network(inputs, visible)
        finally:
            for hook in hooks:
                hook.remove()
        length = mask[0].numel()
        if len({x.shape for x in outputs}) > 1:
            raise ValueError(
                f"The last {self.num_layers} blocks give tokens {[tuple(x.shape) for x in outputs]} (N, L, C), which "
                f"cannot be averaged on {length} tokens; set num_layers to at most the number of blocks in the last "
                "scale."
            )
        # without the class token, which comes first
        tokens = [select_tokens(x[:, -length:], mask, places).float() for x in outputs]
        return torch.stack([F.layer_norm(x, x.shape[-1:]) for x in tokens]).mean(0)


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    return list(getattr(backbone, "layers", None) or getattr(backbone, "blocks", None) or ())
