"""The MLP of a transformer block, computed in parts and with little memory."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .linear import norm_backward, product, sum_of_products

# Activations of the hidden layer in one part: 16 MiB. The system clears larger blocks page by page at each allocation
_PART = 1 << 22


def normed_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
) -> Tensor:
    """Compute a layer norm, a linear layer, GELU and a linear layer in float32 on a CPU.

    Only the input is kept for the backward pass. The backward pass computes GELU and the first of the two products
    again, which costs a ninth of the products of a block. Rows are computed in parts.

    Args:
        x (Tensor): Tokens (B, L, C).
        norm_weight (Tensor): Weight of the norm (C,).
        norm_bias (Tensor): Bias of the norm (C,).
        eps (float): Number added to the variance.
        weight1 (Tensor): Weight of the first linear layer (H, C).
        bias1 (Tensor): Bias of the first linear layer (H,).
        weight2 (Tensor): Weight of the second linear layer (C', H).
        bias2 (Tensor): Bias of the second linear layer (C',).

    Returns:
        Tensor: (B, L, C').
    """
    weights = norm_weight, norm_bias, weight1, bias1, weight2, bias2
    return _MLP.apply(eps, x.flatten(0, -2), *weights).unflatten(0, x.shape[:-1])


class _MLP(Function):
    """Autograd function of the MLP: rows (L, C) to (L, C')."""

    @staticmethod
    def forward(ctx: Any, eps: float, x: Tensor, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        ctx.eps = eps
        norm_weight, norm_bias, weight1, bias1, weight2, bias2 = weights
        size = _rows(weight1)
        out = x.new_empty(len(x), len(weight2))
        for rows, result in zip(x.split(size), out.split(size), strict=True):
            normed = F.layer_norm(rows, norm_weight.shape, norm_weight, norm_bias, eps)
            result.copy_(product(product(normed, weight1, bias1, "gelu"), weight2, bias2))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        norm_weight, norm_bias, weight1, bias1, weight2, _ = weights
        size = _rows(weight1)
        grad_x = torch.empty_like(x)
        grads: Any = None
        for rows, of_out, result in zip(x.split(size), grad.split(size), grad_x.split(size), strict=True):
            normed = F.layer_norm(rows, norm_weight.shape, norm_weight, norm_bias, ctx.eps)
            before = product(normed, weight1, bias1)  # (L, hidden channels)
            of_weight2 = sum_of_products(of_out, F.gelu(before))
            of_hidden = torch.ops.aten.gelu_backward(product(of_out, weight2.t()), before)
            of_weight1 = sum_of_products(of_hidden, normed)
            of_normed = product(of_hidden, weight1.t())
            of_rows, *of_norm = norm_backward(of_normed, rows, norm_weight, norm_bias, ctx.eps)
            result.copy_(of_rows)
            parts = (*of_norm, of_weight1, of_hidden.sum(0), of_weight2, of_out.sum(0))
            grads = parts if grads is None else [total.add_(part) for total, part in zip(grads, parts, strict=True)]
        return None, grad_x, *grads


def _rows(weight: Tensor) -> int:
    return max(_PART // len(weight), 1)
