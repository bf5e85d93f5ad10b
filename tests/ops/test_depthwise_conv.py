"""The depthwise convolution of clips and its gradients are equal to torch's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.ops.depthwise_conv import depthwise_conv3d


def gradients(convolve, x, weight, seed=0):
    """Compute the output, and the gradients for a random gradient of the output."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = convolve(x, weight)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
    return y, *torch.autograd.grad(y, (x, weight), grad)


@st.composite
def convolutions(draw):
    """Draw the shape of the maps, kernel, stride and padding."""
    kernel = [draw(st.integers(1, 4)) for _ in range(3)]
    padding = [draw(st.integers(0, k - 1)) for k in kernel]
    stride = [draw(st.integers(1, 9)) for _ in range(3)]
    size = [draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)]
    return (draw(st.integers(1, 3)), draw(st.integers(1, 5)), *size), kernel, stride, padding


@settings(max_examples=60)
@given(convolutions(), st.booleans())
def test_equals_torch_in_double_precision(case, channels_last):
    shape, kernel, stride, padding = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    weight = torch.randn(shape[1], 1, *kernel, generator=generator, dtype=torch.float64)
    ours = gradients(lambda x, w: depthwise_conv3d(x, w, stride, padding), x, weight)
    theirs = gradients(lambda x, w: F.conv3d(x, w, None, stride, padding, groups=shape[1]), x, weight)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grid, channels, stride", [((8, 56, 56), 96, 1), ((8, 56, 56), 96, 8), ((8, 14, 14), 768, 2)])
def test_rounding_at_the_size_of_mvit(grid, channels, stride):
    """Compare float32 with double precision; a gradient of the weights sums up to 25,088 products."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *grid, channels, generator=generator).permute(0, 4, 1, 2, 3)
    weight = torch.randn(channels, 1, 3, 3, 3, generator=generator)
    stride = (1, stride, stride)

    def torchs(x, w):
        return F.conv3d(x, w, None, stride, (1, 1, 1), groups=channels)

    exact = gradients(torchs, x.double(), weight.double())
    theirs = gradients(torchs, x, weight)
    ours = gradients(lambda x, w: depthwise_conv3d(x, w, stride, (1, 1, 1)), x, weight)
    for a, b, c, bound in zip(ours, theirs, exact, (1e-6, 1e-6, 1e-5), strict=True):
        error, torchs_error = ((m.double() - c).abs().max() / c.abs().max() for m in (a, b))
        assert error < bound and torchs_error < bound


def test_autocast_computes_in_its_dtype():
    x, weight = torch.randn(1, 8, 4, 6, 6), torch.randn(8, 1, 3, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y, grad_x, grad_weight = gradients(lambda x, w: depthwise_conv3d(x, w, (1, 2, 2), (1, 1, 1)), x, weight)
    assert y.dtype == torch.bfloat16 and grad_x.dtype == grad_weight.dtype == torch.float32
    exact = gradients(lambda x, w: F.conv3d(x, w, None, (1, 2, 2), (1, 1, 1), groups=8), x, weight)
    for a, b in zip((y, grad_x, grad_weight), exact, strict=True):
        assert (a - b).abs().max() < 0.03 * b.abs().max()


def test_only_the_wanted_gradient():
    x, weight = torch.randn(1, 2, 3, 4, 4), torch.randn(2, 1, 3, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(depthwise_conv3d(x, weight, (1, 1, 1), (1, 1, 1)).sum(), weight)
    (expected,) = torch.autograd.grad(F.conv3d(x, weight, None, 1, 1, groups=2).sum(), weight)
    torch.testing.assert_close(grad, expected)
