"""The MLP of a block, in parts and with little memory."""

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MLP
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .gate import LINEAR, may_bypass
from .linear import may_bypass_norm, norm_backward, product, runs_on_onednn, sum_of_products

# Hidden activations of one part, 16 MiB: larger blocks are new memory each time, which the system clears page by page
_PART = 1 << 22


def fuses_mlp(x: Tensor, norm: nn.Module, mlp: nn.Module) -> bool:
    """Tell whether :func:`normed_mlp` takes these tokens and layers.

    Args: as there.
    """
    if not may_bypass_norm(norm) or not may_bypass((mlp, MLP)) or not x.numel():
        return False
    layers = may_bypass((mlp.fc1, LINEAR), (mlp.act, nn.GELU), (mlp.fc2, LINEAR))
    return layers and mlp.act.approximate == "none" and runs_on_onednn(x, mlp.fc1.weight, mlp.fc2.weight)


def normed_mlp(x: Tensor, norm: nn.LayerNorm, mlp: MLP) -> Tensor:
    """Compute ``mlp(norm(x))`` in float32 on a CPU, keeping nothing but the input for the backward pass.

    That computes the rest again, GELU and the first of the two products, which costs a ninth of the products of a
    block. Rows are computed in parts.

    Args:
        x (Tensor): Tokens (B, L, C).
        norm (nn.LayerNorm): The norm before the MLP.
        mlp (MLP): mmaction2's MLP.

    Returns:
        Tensor: (B, L, C').
    """
    fc1, fc2 = mlp.fc1, mlp.fc2
    weights = norm.weight, norm.bias, fc1.weight, fc1.bias, fc2.weight, fc2.bias
    return _MLP.apply(norm.eps, x.flatten(0, -2), *weights).unflatten(0, x.shape[:-1])


class _MLP(Function):
    """Rows (L, C) to (L, C')."""

    @staticmethod
    def forward(ctx, eps: float, x: Tensor, *weights: Tensor) -> Tensor:
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
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        norm_weight, norm_bias, weight1, bias1, weight2, _ = weights
        size = _rows(weight1)
        grad_x = torch.empty_like(x)
        grads = None
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
