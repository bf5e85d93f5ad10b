"""Linear layers in float32 on a CPU by oneDNN, which uses the full vector units of all processors."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .gate import runs_on_onednn

# With fewer multiply-adds, oneDNN's set-up takes longer than the product
_LEAST_WORK = 1 << 21
# Number of rows of one product in the gradient of a weight: longer sums do not fit in the cache
_ROWS = 2048


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``torch.nn.functional.linear``, in float32 on a CPU by oneDNN.

    For float32 products on a CPU, torch calls MKL. On processors that are not Intel's, MKL leaves the wider half of
    AVX-512 unused. oneDNN, which torch contains for its compiler, uses it. Results are equal up to rounding.

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


def product(a: Tensor, b: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """Compute the product of rows with rows, ``a @ b.T + bias``, without gradient.

    Args:
        a (Tensor): float32 (*, C), of any strides.
        b (Tensor): float32 (D, C), of any strides.
        bias (Tensor, optional): (D,). Defaults to None.
        activation (str): "gelu" to apply exact GELU while the result is in the cache. Defaults to "none".

    Returns:
        Tensor: (*, D), contiguous.
    """
    rows = _dense(a.reshape(-1, a.shape[-1]))
    # the last argument is the approximation of GELU
    result = torch.ops.mkldnn._linear_pointwise(rows, _dense(b), bias, activation, [], "none")
    return result.view(*a.shape[:-1], len(b))


def _dense(matrix: Tensor) -> Tensor:
    """Return a matrix with contiguous rows or columns; for other matrices, oneDNN has only a plain loop."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """Compute the gradient of a weight, ``a.T @ b``, without gradient.

    Args:
        a (Tensor): float32 (L, D), of any strides.
        b (Tensor): float32 (L, C), of any strides.

    Returns:
        Tensor: (D, C).
    """
    if a.shape[1] > b.shape[1]:
        # oneDNN is faster if its first argument has fewer rows
        return sum_of_products(b, a).t()
    parts = zip(a.split(_ROWS), b.split(_ROWS), strict=True)
    first, second = next(parts)
    total = product(first.t(), second.t())
    for first, second in parts:
        total += product(first.t(), second.t())
    return total


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
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


def normed_linear(
    x: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Compute a layer norm and a linear layer without keeping the normalised inputs for the backward pass.

    The backward pass computes them again, which takes a small part of the time of a product.

    Args:
        x (Tensor): Inputs, float32 (*, C), on a CPU.
        norm_weight (Tensor): Weight of the norm (C,).
        norm_bias (Tensor): Bias of the norm (C,).
        eps (float): Number added to the variance.
        weight (Tensor): Weight of the linear layer (D, C).
        bias (Tensor, optional): Bias of the linear layer (D,).

    Returns:
        Tensor: (*, D).
    """
    return _NormLinear.apply(x, norm_weight, norm_bias, eps, weight, bias)


def norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float, wanted: tuple[bool, bool, bool] = (True,) * 3
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of a layer norm over the last dimension from its input.

    Args:
        grad (Tensor): Gradient of the norm's output (*, C).
        x (Tensor): The norm's input (*, C).
        weight (Tensor): The norm's weight (C,).
        bias (Tensor): The norm's bias (C,).
        eps (float): Number added to the variance.
        wanted (tuple[bool, bool, bool]): Whether to compute the gradients of x, weight and bias. Defaults to all.

    Returns:
        tuple[Tensor | None, Tensor | None, Tensor | None]: The gradients of x, weight and bias.
    """
    shape = weight.shape
    _, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, eps)
    return torch.ops.aten.native_layer_norm_backward(grad, x, shape, mean, rstd, weight, bias, list(wanted))


class _NormLinear(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm_weight: Tensor, norm_bias: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, norm_weight, norm_bias, weight)
        ctx.eps = eps
        return product(F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm_weight, norm_bias, weight = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1])  # (L, D)
        normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, ctx.eps)
        grad_weight = sum_of_products(rows, normed.view(-1, normed.shape[-1])) if ctx.needs_input_grad[4] else None
        grad_bias = rows.sum(0) if ctx.needs_input_grad[5] else None
        of_norm = norm_backward(product(grad, weight.t()), x, norm_weight, norm_bias, ctx.eps, ctx.needs_input_grad[:3])
        return *of_norm, None, grad_weight, grad_bias
