"""Optimizer wrappers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import autocast
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

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


def gradient_scaling(optimizer: Optimizer) -> float | Tensor | None:
    """Return the factor by which a gradient scaler has multiplied the gradients that an optimizer is about to use.

    A fused optimizer divides by it, and leaves the step out where the scaler has found infinite gradients. Other
    optimizers get gradients that the scaler has divided, and no step with infinite ones.

    Args:
        optimizer (Optimizer): In a hook before its step.

    Returns:
        float | Tensor | None: The factor. 1.0 if the gradients were divided already, to clip them. None without a
            scaler, and for optimizers that are not fused.
    """
    if getattr(optimizer, "found_inf", None) is None:  # torch.amp.GradScaler sets it during such a step
        return None
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else scale


def can_leave_out(optimizer: Optimizer) -> bool:
    """Return whether the device itself leaves a step out if the optimizer's attribute ``found_inf`` is a tensor of 1.

    PyTorch's fused optimizers do so, for gradient scalers. For others the host has to decide, and for shards too: no
    optimizer of shards was tried with it.
    """
    sharded = any(isinstance(p, DTensor) for group in optimizer.param_groups for p in group["params"])
    return not sharded and bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def gradient_norm(optimizer: Optimizer) -> Tensor | None:
    """Compute the 2-norm of all gradients that an optimizer is about to use.

    Args:
        optimizer (Optimizer): In a hook before its step. If its gradients are sharded, every process has to call this.

    Returns:
        Tensor | None: The norm, a scalar. None without gradients.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return whole(torch.nn.utils.get_total_norm(gradients).detach()) if gradients else None


def whole(value: Tensor) -> Tensor:
    """Return a tensor itself, or the whole tensor of its shards."""
    return value.full_tensor() if isinstance(value, DTensor) else value


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
    # wrappers of another engine have no such method
    return all(item.should_update() for item in wrappers_of(optim_wrapper) if hasattr(item, "should_update"))
