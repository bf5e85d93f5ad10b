"""Optimizer wrappers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import autocast
from torch import nn

from maskfeat_plugin.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` with the forward pass under autocast to bfloat16, on a GPU and a CPU.

    Bfloat16 has the range of float32, so that no loss is scaled: the gradients are what they are, sharded or not, and a
    checkpoint has no scaler that another strategy would miss. Weights stay in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, in the context of gradient accumulation.

        Args:
            model (nn.Module): The model in training.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
