"""Depthwise convolution of clips with a fast backward pass on a CPU."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Triple = tuple[int, int, int]


def depthwise_conv3d(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Compute a ``conv3d`` with one kernel per channel and without bias.

    The results are equal to ``torch.nn.functional.conv3d``. On a CPU, torch's gradients of this convolution take some
    30 times as long as the convolution. Here the gradients are computed by convolutions too.

    Args:
        x (Tensor): Maps (N, C, T, H, W), fastest with the channels last in memory.
        weight (Tensor): Kernels (C, 1, kT, kH, kW).
        stride (Sequence[int]): Stride in time, height and width.
        padding (Sequence[int]): Zeros on each side, less than the kernel's size.

    Returns:
        Tensor: (N, C, T', H', W').
    """
    stride, padding = tuple(stride), tuple(padding)
    weight = weight.contiguous(memory_format=torch.channels_last_3d)
    if x.device.type != "cpu":
        return F.conv3d(x, weight, None, stride, padding, groups=x.shape[1])
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
    return _DepthwiseConv3d.apply(x, weight, stride, padding)


class _DepthwiseConv3d(Function):
    """Autograd function of the convolution, whose gradients are convolutions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, None, stride, padding, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight = None, None
        if ctx.needs_input_grad[0]:
            grad_x = input_gradient(grad, x.shape[2:], weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            grad_weight = weight_gradient(grad, x, weight, ctx.stride, ctx.padding)
        return grad_x, grad_weight, None, None


def input_gradient(grad: Tensor, size: Sequence[int], weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Compute the gradient (N, C, T, H, W): mirrored kernels on the output's gradient, which the stride spreads."""
    kernel = weight.shape[2:]
    if stride != (1, 1, 1):
        # outputs at stride 1
        full = [n + 2 * p - k + 1 for n, p, k in zip(size, padding, kernel, strict=True)]
        spread = grad.new_zeros(len(grad), *full, grad.shape[1]).permute(0, 4, 1, 2, 3)  # channels last in memory
        spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad
        grad = spread
    mirrored = weight.flip(2, 3, 4).contiguous(memory_format=torch.channels_last_3d)
    around = [k - 1 - p for p, k in zip(padding, kernel, strict=True)]
    return F.conv3d(grad, mirrored, None, 1, around, groups=grad.shape[1])


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> Tensor:
    """Compute the gradient (C, 1, kT, kH, kW), one time step of the kernel after another.

    For a single step, all frames are one batch of images, and torch has a fast depthwise gradient for images.
    """
    channels, kernel = x.shape[1], weight.shape[2:]
    plane = weight.new_empty(channels, 1, *kernel[1:]).contiguous(memory_format=torch.channels_last)
    steps = []
    for step in range(kernel[0]):
        # output t sees input first + t * stride
        first = step - padding[0]
        begin = max(0, -(first // stride[0]))
        end = min(grad.shape[2], (x.shape[2] - 1 - first) // stride[0] + 1)
        if begin >= end:
            steps.append(torch.zeros_like(plane))
            continue
        seen = x[:, :, first + begin * stride[0] : first + (end - 1) * stride[0] + 1 : stride[0]]
        steps.append(_image_gradient(grad[:, :, begin:end], seen, plane, stride[1:], padding[1:]))
    return torch.stack(steps, dim=2)  # (C, 1, kT, kH, kW)


def _image_gradient(grad: Tensor, x: Tensor, plane: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Compute the gradient (C, 1, kH, kW) of kernels that map frames (N, C, T, H, W) to (N, C, T, H', W')."""
    # (N, C, T, H, W) -> (N*T, C, H, W), channels last in memory
    grad, x = (m.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last) for m in (grad, x))
    wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(
        grad, x, plane, None, stride, padding, [1, 1], False, [0, 0], x.shape[1], wanted
    )[1]
