"""The head of MoCo v3, for training without waits."""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank
from mmpretrain.models.heads import MoCoV3Head as _MoCoV3Head
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class MoCoV3Head(_MoCoV3Head):
    """``mmpretrain.MoCoV3Head`` whose host does not wait for the device.

    Args:
        predictor (dict): Config of the neck that predicts keys from queries, such as ``mmpretrain.NonLinearNeck``.
        loss (dict): Config of the loss of logits and classes, such as ``mmpretrain.CrossEntropyLoss``.
        temperature (float): Divisor of the cosines. Defaults to 1.0.
    """

    def loss(self, base_out: Tensor, momentum_out: Tensor) -> Tensor:
        """Compute the loss of finding each sample's key among the keys of all processes (MoCo v3, Chen et al., 2021).

        Args:
            base_out (Tensor): Queries (N, D), floating point.
            momentum_out (Tensor): Keys (N, D), floating point. N is the same in each process.

        Returns:
            Tensor: A scalar.
        """
        query = F.normalize(self.predictor((base_out,))[0], dim=1)
        keys = torch.cat(all_gather(F.normalize(momentum_out, dim=1)))
        logits = query @ keys.T / self.temperature  # (N, N of all processes)
        # made on the device: a copy from the host would wait for it
        classes = torch.arange(len(logits), device=logits.device) + len(logits) * get_rank()
        return self.loss_module(logits, classes)
