"""Optimizer wrappers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
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


def wrappers_of(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """A runner's optimizer wrapper, or its several."""
    return (
        list(optim_wrapper.optim_wrappers.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    )


def has_stepped(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Whether the last batch was that of a step, so that no accumulated gradients are waiting.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict): After a batch.
    """
    # an engine of its own, such as DeepSpeed's, does not tell
    return all(item.should_update() for item in wrappers_of(optim_wrapper) if hasattr(item, "should_update"))
