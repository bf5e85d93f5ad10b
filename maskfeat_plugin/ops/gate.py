"""The decision whether a layer's parameters may be used without calling the layer.

Fast paths compute with the parameters of several layers at once. Then hooks on these layers do not fire, an adapter in
the place of one is left out, and tools that count or record operations see others. So each fast path asks here first.
"""

import mmcv.cnn
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

# mmcv's differs from torch's on releases of torch before 1.5 alone
LINEAR = (nn.Linear, mmcv.cnn.Linear)
# Modes of torch's own compilers, checkpoints and default device: the operations are theirs to see as they are
_OF_TORCH = ("torch._", "torch.fx.", "torch.utils.checkpoint", "torch.utils._device", "torch.overrides")


class FastPathMode(TorchDispatchMode):
    """Base of the dispatch modes that watch fast paths on purpose: beside one, nothing counts as watched."""


def is_watched() -> bool:
    """Tell whether the operations themselves are watched, so that they must be the parent's.

    That is so while ``torch.jit.trace`` or ``torch.fx`` records them, in a mode that sees each of them, such as
    ``FlopCounterMode``, and in the transforms of ``torch.func`` and forward-mode derivatives, which need operations
    that torch knows. ``torch.compile`` and ``torch.export`` take any operations.

    Returns:
        bool: Whether to compute as the parent class does.
    """
    if torch.compiler.is_compiling():
        return False
    if torch.jit.is_tracing() or torch.fx._symbolic_trace._is_fx_tracing_flag:
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return True
    modes = [*_get_current_dispatch_mode_stack(), *_get_current_function_mode_stack()]
    if any(isinstance(mode, FastPathMode) for mode in modes):
        return False
    return not all(type(mode).__module__.startswith(_OF_TORCH) for mode in modes)


def may_bypass(*modules: tuple[nn.Module, type | tuple[type, ...]]) -> bool:
    """Tell whether the parameters of modules may be used without calling the modules.

    Args:
        *modules (tuple[nn.Module, type | tuple[type, ...]]): Pairs of a module and the class, or classes, that it must
            be of. A subclass is another class: parametrizations, adapters and quantized layers are.

    Returns:
        bool: True if each module is of its class, has no hooks and no ``forward`` of its own, and nobody watches the
        operations or calls, see :func:`is_watched`.
    """
    for module, kinds in modules:
        if type(module) not in (kinds if isinstance(kinds, tuple) else (kinds,)) or _is_changed(module):
            return False
    if torch.compiler.is_dynamo_compiling():
        return True
    if _has_any_global_hook() or is_watched():
        return False
    # torch.export names operations by the layers that called them
    return not torch.compiler.is_compiling()


def _is_changed(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or module._compiled_call_impl is not None
        or "forward" in vars(module)
    )
