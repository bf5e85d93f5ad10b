"""The MLP of a block in parts, which in training keeps one hidden activation instead of two."""

import torch
import torch.nn.functional as F
from mmaction.models.backbones.mvit import MLP
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..utils import product, runs_on_onednn, sum_of_products

# Hidden activations of one part, 8 MiB: larger blocks are new memory each time, which the system clears page by page
_PART = 1 << 21


class FusedMLP(MLP):
    """mmaction2's ``MLP``; in float32 on a CPU rows are computed in parts and GELU is computed again for its gradient.

    It has no state of its own: the MLP of a built block becomes one by its class.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, L, C) to (B, L, C')."""
        fc1, fc2 = self.fc1, self.fc2
        plain = type(self.act) is nn.GELU and self.act.approximate == "none"
        if not plain or not runs_on_onednn(x, fc1.weight, fc2.weight) or not x.numel():
            return super().forward(x)
        return _MLP.apply(x.flatten(0, -2), fc1.weight, fc1.bias, fc2.weight, fc2.bias).unflatten(0, x.shape[:-1])


class _MLP(Function):
    """Rows (L, C) to (L, C')."""

    @staticmethod
    def forward(ctx, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        out = x.new_empty(len(x), len(weight2))
        hidden = []
        for rows, result in zip(x.split(_rows(weight1)), out.split(_rows(weight1)), strict=True):
            before = product(rows, weight1, bias1)
            result.copy_(product(F.gelu(before), weight2, bias2))
            if any(ctx.needs_input_grad):
                hidden.append(before)
        ctx.save_for_backward(x, weight1, weight2, *hidden)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight1, weight2, *hidden = ctx.saved_tensors
        size = _rows(weight1)
        grad_x = torch.empty_like(x)
        grad1, grad2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        grad_bias1 = grad.new_zeros(len(weight1))
        for rows, grad_rows, before, result in zip(
            x.split(size), grad.split(size), hidden, grad_x.split(size), strict=True
        ):
            grad2 += sum_of_products(grad_rows, F.gelu(before))
            of_hidden = torch.ops.aten.gelu_backward(product(grad_rows, weight2.t()), before)
            grad_bias1 += of_hidden.sum(0)
            grad1 += sum_of_products(of_hidden, rows)
            result.copy_(product(of_hidden, weight1.t()))
        return grad_x, grad1, grad_bias1, grad2, grad.sum(0)


def _rows(weight: Tensor) -> int:
    return max(_PART // len(weight), 1)
