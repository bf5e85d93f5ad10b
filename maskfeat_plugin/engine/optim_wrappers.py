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
    """``OptimWrapper`` that runs the forward pass under autocast to bfloat16, on a GPU or a CPU.

    Bfloat16 has the range of float32, so the loss needs no scaling. The gradients are therefore unscaled, sharded or
    not, and a checkpoint contains no scaler state that another strategy would need. Weights stay in float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast and the context of gradient accumulation.

        Args:
            model (nn.Module): The model in training.
        """
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def wrappers_of(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """Return all optimizer wrappers of a runner as a list."""
    return (
        list(optim_wrapper.optim_wrappers.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]
    )


def has_stepped(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """Return whether the last batch ended with an optimizer step, so that no accumulated gradients are left.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict): The optimizer wrapper of a runner, after a batch.
    """
    # wrappers of another engine, such as DeepSpeed's, have no such method
    return all(item.should_update() for item in wrappers_of(optim_wrapper) if hasattr(item, "should_update"))
