"""Contrastive loss on the pooled tokens of two views, whose targets come from a moving average of the encoder."""

import math

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmpretrain.models.utils import CosineEMA
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..backbones.masked_backbone import takes_mask
from ..target_generators.frozen import DetachedModule
from ..utils import foreign_call, takes_argument

_PROJECTORS = (
    "maskfeat.MomentumContrast calls it with one vector per view, (N, C), and needs (N, D). Use "
    "mmpretrain.NonLinearNeck with with_avg_pool=False. Batch norm needs at least two samples."
)
_HEADS = (
    "maskfeat.MomentumContrast calls loss(queries, keys), (N, D) each. Use maskfeat.MoCoV3Head or "
    "mmpretrain.LatentPredictHead."
)


@MODELS.register_module()
class MomentumContrast(BaseModule):
    """Global loss of :class:`MaskFeat`: contrast of two views of a sample, as in MoCo v3 (Chen et al., 2021).

    The student encodes both views with their masks. Its queries are the projected means of the visible tokens. The
    teacher, a moving average of backbone and projector, encodes both views without masks. Its keys are the projected
    means of all tokens. The head compares the queries of each view with the keys of the other view. Keys are gathered
    from all processes if the head does so.

    The moving average starts with the weights of the first training step and is updated before every forward pass of
    training. Checkpoints include it.

    Args:
        projector (dict): Config of a neck that maps the mean token (N, C) to (N, D), such as
            ``mmpretrain.NonLinearNeck``.
        head (dict): Config of a head with ``loss(queries, keys)``: :class:`MoCoV3Head`, or
            ``mmpretrain.LatentPredictHead`` for BYOL's loss without negatives.
        momentum (float): Share of the student in the first update of the moving average, as in
            ``mmpretrain.CosineEMA``. Defaults to 0.01, MoCo v3's value for ViT.
        end_momentum (float): Share at the end of training, reached by half a cosine. Defaults to 0.0: the moving
            average stands still. Without a runner, ``momentum`` stays constant.
        loss_weight (float): Factor of the loss. With 0, :class:`MaskFeat` does not build this loss. Defaults to 1.0.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        projector: dict,
        head: dict,
        momentum: float = 0.01,
        end_momentum: float = 0.0,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not 0 < momentum < 1:
            raise ValueError(f"momentum must be between 0 and 1, got {momentum!r}. It is the share of the student.")
        if not 0 <= end_momentum < 1:
            raise ValueError(f"end_momentum must be 0 or between 0 and 1, got {end_momentum!r}.")
        if loss_weight <= 0:
            raise ValueError(f"loss_weight must be positive, got {loss_weight!r}.")
        self.projector = MODELS.build(projector)
        self.head = MODELS.build(head)
        self.momentum = momentum
        self.end_momentum = end_momentum
        self.loss_weight = loss_weight

    def connect(self, backbone: nn.Module) -> None:
        """Create the teacher, a moving average of the model's backbone and the projector.

        Args:
            backbone (nn.Module): The backbone. Its ``forward(inputs, mask)`` returns all tokens (N, L, C) if nothing is
                masked.

        Raises:
            ValueError: If the backbone's forward takes no mask.
        """
        if not takes_mask(backbone):
            raise ValueError(
                f"global_loss needs a backbone with forward(inputs, mask) that returns tokens (N, L, C), but the "
                f"forward of {type(backbone).__name__} has no mask. Use maskfeat.MaskedViT or maskfeat.MaskedMViT."
            )
        average = _MovingAverage(nn.Sequential(backbone, self.projector), self.momentum, self.end_momentum)
        self.teacher = DetachedModule(average, in_checkpoint=True)
        # not by nn.Module.__setattr__: the backbone is a child of the model already
        object.__setattr__(self, "student", backbone)
        # encoders of the visible tokens would otherwise count them, for which the host waits
        self._known = {"num_masked": 0} if takes_argument(backbone.forward, "num_masked") else {}

    def forward(self, pooled: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Update the teacher in training, and compute the loss.

        Args:
            pooled (Tensor): Means of the student's visible tokens, (2N, C). Rows 2i and 2i + 1 are the views of sample
                i.
            inputs (Tensor): Normalised images (2N, C, H, W) or clips (2N, C, T, H, W), in the same order.
            mask (Tensor): bool (2N, T', H', W').

        Returns:
            Tensor: A scalar.

        Raises:
            ValueError: If projector or head do not fit.
        """
        queries = [self._project(self.projector, view) for view in _views(pooled)]  # (N, D) each
        keys = self._keys(inputs, mask)
        with foreign_call("global_loss.head", self.head, _HEADS):
            losses = [self.head.loss(query, key) for query, key in zip(queries, reversed(keys), strict=True)]
        return self.loss_weight * sum(losses)

    @torch.no_grad()
    def _keys(self, inputs: Tensor, mask: Tensor) -> list[Tensor]:
        """Update the teacher in training, and project the mean tokens of both views, (N, D) each."""
        average = self.teacher.network
        if self.training:
            average.update_parameters(nn.Sequential(self.student, self.projector))
        backbone, projector = average.module
        projector.train(self.training)  # as in MoCo v3, batch norm uses the means of the batch
        tokens = backbone(inputs, torch.zeros_like(mask), **self._known)  # (2N, L, C)
        return [self._project(projector, view) for view in _views(tokens.mean(1))]

    def _project(self, projector: nn.Module, pooled: Tensor) -> Tensor:
        with foreign_call("global_loss.projector", projector, _PROJECTORS):
            return projector((pooled,))[-1]


class _MovingAverage(CosineEMA):
    """``mmpretrain.CosineEMA`` whose host does not wait for the device."""

    def update_parameters(self, model: nn.Module) -> None:
        """Move the parameters towards a model's, and copy its buffers."""
        share = self._share()
        for average, source in zip(self.module.parameters(), model.parameters(), strict=True):
            average.lerp_(source, share.to(average.dtype))
        for average, source in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(source)
        self.steps += 1

    def _share(self) -> Tensor:
        """Compute the share of the model in this update. It is 1 in the first update."""
        share = torch.full_like(self.steps, self.momentum, dtype=torch.float32)
        total = MessageHub.get_current_instance().get_info("max_iters")
        if total is not None:
            cosine = (torch.cos(self.steps * (math.pi / total)) + 1) / 2
            share = self.end_momentum + (self.momentum - self.end_momentum) * cosine
        return torch.where(self.steps == 0, 1.0, share)


def _views(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (N, ...) of each view."""
    return rows[::2], rows[1::2]
