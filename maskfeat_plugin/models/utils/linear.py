"""Linear layers in float32 on a CPU by oneDNN, which uses the vector units of every vendor's processors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Multiply-adds below which oneDNN's set-up takes longer than the product
_LEAST_WORK = 1 << 21
# Rows of one product of a weight's gradient: longer sums leave the cache
_ROWS = 2048


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, in float32 on a CPU by oneDNN.

    torch takes float32 products on a CPU to MKL, which on processors that are not Intel's leaves the wider half of
    AVX-512 unused. oneDNN, which torch has for its compiler, does not. Results are equal to rounding.

    Args:
        x (Tensor): Inputs (*, C).
        weight (Tensor): (D, C).
        bias (Tensor, optional): (D,). Defaults to None.

    Returns:
        Tensor: (*, D).
    """
    if not runs_on_onednn(x, weight) or x.numel() * len(weight) < _LEAST_WORK:
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


def runs_on_onednn(*tensors: Tensor) -> bool:
    """Whether :func:`product` takes these tensors: float32 on a CPU, and neither autocast nor a compiler at work."""
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and all(_is_plain(tensor) for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )


def _is_plain(tensor: Tensor) -> bool:
    # subclasses stand for something else: sharded, fake, quantized
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and type(tensor) in (Tensor, nn.Parameter)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product of rows with rows, ``a @ b.T + bias``, without gradient.

    Args:
        a (Tensor): float32 (*, C), of any strides.
        b (Tensor): float32 (D, C), of any strides.
        bias (Tensor, optional): (D,). Defaults to None.

    Returns:
        Tensor: (*, D), contiguous.
    """
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """The gradient of a weight, ``a.T @ b``, without gradient.

    Args:
        a (Tensor): float32 (L, D), of any strides.
        b (Tensor): float32 (L, C), of any strides.

    Returns:
        Tensor: (D, C).
    """
    if a.shape[1] > b.shape[1]:
        # oneDNN is the faster the fewer rows its first argument has
        return sum_of_products(b, a).t()
    parts = zip(a.split(_ROWS), b.split(_ROWS), strict=True)
    first, second = next(parts)
    total = product(first.t(), second.t())
    for first, second in parts:
        total += product(first.t(), second.t())
    return total


class _Linear(Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight, grad_bias = None, None, None
        if ctx.needs_input_grad[0]:
            grad_x = product(grad, weight.t())
        rows = grad.reshape(-1, grad.shape[-1])  # (L, D)
        if ctx.needs_input_grad[1]:
            grad_weight = sum_of_products(rows, x.reshape(-1, x.shape[-1]))
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        return grad_x, grad_weight, grad_bias


class Linear(nn.Linear):
    """``nn.Linear`` computed by :func:`linear`.

    It has no state of its own: a layer of a built model becomes one by its class, see :func:`speed_up_linear`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Project (*, in_features) to (*, out_features)."""
        return linear(x, self.weight, self.bias)


def speed_up_linear(model: nn.Module) -> None:
    """Compute every ``nn.Linear`` in a model, subclasses aside, by :func:`linear`; parameters and names stay."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
