"""The gate of the fast paths, and the switch that turns them off.

Fast paths compute with the parameters of several layers at once and do not call these layers. Then hooks on the layers
do not fire, an adapter that replaces a layer is ignored, and tools that count or record operations see other
operations. So each fast path asks this module first: :func:`may_bypass` decides about layers, :func:`takes_kernels` and
:func:`runs_on_onednn` about tensors, and all of them ask :func:`only_plain_operations`.

The environment variable ``MASKFEAT_FAST_PATHS=0`` turns all fast paths off; :func:`fast_paths` turns them off for a
part of a program.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import mmcv.cnn
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

# mmcv's class differs from torch's only with torch before 1.5
LINEAR = (nn.Linear, mmcv.cnn.Linear)
# Other subclasses of Tensor mean something else: sharded, fake and quantized tensors
_PLAIN = (Tensor, nn.Parameter)
VARIABLE = "MASKFEAT_FAST_PATHS"
# Modes of torch's own compilers, checkpoints and default device, which may see the operations as they are
_OF_TORCH = ("torch._", "torch.fx.", "torch.utils.checkpoint", "torch.utils._device", "torch.overrides")


def read_switch() -> bool:
    """Read the environment variable ``MASKFEAT_FAST_PATHS``.

    Returns:
        bool: False if it is 0, True if it is 1, empty or not set.

    Raises:
        ValueError: If it has another value.
    """
    value = os.environ.get(VARIABLE) or "1"
    if value not in ("0", "1"):
        raise ValueError(f"{VARIABLE}: the value is {value!r}. Set it to 0 to turn the fast paths off, or to 1.")
    return value == "1"


_enabled = read_switch()


@contextmanager
def fast_paths(enabled: bool) -> Iterator[None]:
    """Turn all fast paths of this process on or off, within a ``with`` block.

    Put a whole training step with its backward pass into one block: gradient checkpointing runs layers again there.

    Args:
        enabled (bool): Whether fast paths may be taken.

    Yields:
        None: The fast paths are on or off until the block ends.
    """
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


class FastPathMode(TorchDispatchMode):
    """Base class of dispatch modes that watch fast paths on purpose: inside one, no operation counts as watched."""


def only_plain_operations() -> bool:
    """Check whether only the operations of the parent class may be used, for all layers.

    This holds while the fast paths are off. It also holds while the operations are watched: while ``torch.jit.trace``
    or ``torch.fx`` records them, inside a mode that sees every operation, such as ``FlopCounterMode``, and in the
    transforms of ``torch.func`` and forward-mode derivatives, which need operations that torch knows.
    ``torch.compile`` and ``torch.export`` accept any operations.

    Returns:
        bool: True if the parent class has to compute the result.
    """
    if not _enabled:
        return True
    if torch.compiler.is_compiling():
        return False
    is_tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    if is_tracing or torch.fx._symbolic_trace._is_fx_tracing_flag:
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return True
    modes = [*_get_current_dispatch_mode_stack(), *_get_current_function_mode_stack()]
    if any(isinstance(mode, FastPathMode) for mode in modes):
        return False
    return not all(type(mode).__module__.startswith(_OF_TORCH) for mode in modes)


def may_bypass(*layers: tuple[nn.Module, type | tuple[type, ...]], inputs: Tensor | None = None) -> bool:
    """Check whether the parameters of layers may be used without calling the layers.

    Args:
        *layers (tuple[nn.Module, type | tuple[type, ...]]): Pairs of a layer and its required class, or classes. A
            subclass does not count: parametrizations, adapters and quantized layers are subclasses.
        inputs (Tensor, optional): Inputs of a fast path that runs on oneDNN: :func:`runs_on_onednn` must hold for them
            and the layers' parameters. Defaults to None: the fast path runs on any device.

    Returns:
        bool: True if each layer has its class, no hooks and no ``forward`` of its own, the operations and calls are not
        watched, the fast paths are on, and the device is supported.
    """
    if not _enabled or (inputs is not None and not runs_on_onednn(inputs)):
        return False
    for layer, kinds in layers:
        if not _is_untouched(layer, kinds):
            return False
        if inputs is not None and not _suit_onednn(layer.parameters(recurse=False)):
            return False
    if torch.compiler.is_dynamo_compiling():
        return True
    if _has_any_global_hook() or only_plain_operations():
        return False
    # torch.export names operations by the layers that called them
    return not torch.compiler.is_compiling()


def _is_untouched(layer: nn.Module, kinds: type | tuple[type, ...]) -> bool:
    if type(layer) not in (kinds if isinstance(kinds, tuple) else (kinds,)):
        return False
    return not (
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or layer._compiled_call_impl is not None
        or "forward" in vars(layer)
    )


def takes_kernels(*tensors: Tensor) -> bool:
    """Check whether hand-written kernels may read tensors.

    Args:
        *tensors (Tensor): The operands.

    Returns:
        bool: True if all tensors hold their own values, and :func:`only_plain_operations` is false.
    """
    return all(type(tensor) in _PLAIN for tensor in tensors) and not only_plain_operations()


def runs_on_onednn(*tensors: Tensor) -> bool:
    """Check whether :func:`.linear.product` accepts tensors.

    Args:
        *tensors (Tensor): The operands.

    Returns:
        bool: True if all are float32 on a CPU, torch has oneDNN, and the operations are neither compiled nor watched.
    """
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    onednn = torch.backends.mkldnn
    if not onednn.is_available() or not onednn.enabled:
        return False
    return _suit_onednn(tensors) and not only_plain_operations()


def multiplies_in_bfloat16(*tensors: Tensor) -> bool:
    """Check whether the products of tensors are computed in bfloat16 by oneDNN on a CPU.

    Args:
        *tensors (Tensor): The operands, bfloat16, or of any floating point type under autocast to bfloat16.

    Returns:
        bool: True if so, the processor has instructions for bfloat16, and the operations are neither compiled nor
        watched.
    """
    if torch.compiler.is_compiling() or only_plain_operations():
        return False
    if any(type(t) not in _PLAIN or t.device.type != "cpu" for t in tensors):
        return False
    if torch.is_autocast_enabled("cpu"):
        is_bfloat16 = torch.get_autocast_dtype("cpu") == torch.bfloat16
    else:
        is_bfloat16 = all(t.dtype == torch.bfloat16 for t in tensors)
    onednn = torch.backends.mkldnn
    if not is_bfloat16 or not onednn.is_available() or not onednn.enabled:
        return False
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def _suit_onednn(tensors: Iterable[Tensor]) -> bool:
    return all(type(t) in _PLAIN and t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
