"""Linear layers by oneDNN are equal to torch's, and are used only where oneDNN supports them."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from maskfeat_plugin.ops.gate import runs_on_onednn
from maskfeat_plugin.ops.layers import apply_layer, norm_linear
from maskfeat_plugin.ops.linear import linear, product, sum_of_products


def random(*size, dtype=torch.float32, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradients(function, *inputs):
    """Compute the result, and the gradients for a random gradient of the result."""
    inputs = [None if x is None else x.detach().requires_grad_() for x in inputs]
    y = function(*inputs)
    return y, *torch.autograd.grad(y, [x for x in inputs if x is not None], random(*y.shape, seed=9).to(y.dtype))


def assert_as_exact_as(ours, theirs, exact):
    """Assert that our result is as near to double precision as torch's, up to a factor for the order of the sums."""
    for a, b, c in zip(ours, theirs, exact, strict=True):
        scale = c.abs().max()
        error, torchs = ((m.double() - c).abs().max() / scale for m in (a, b))
        assert error <= max(5 * torchs, 3e-6), (error, torchs)


@st.composite
def strided_matrices(draw):
    """Draw a matrix of any memory layout: slices of rows, of columns, transposed."""
    rows, columns = draw(st.integers(1, 70)), draw(st.integers(1, 40))
    matrix = random(2 * rows + 1, 3 * columns + 2)[draw(st.integers(0, 1)) :: draw(st.sampled_from([1, 2]))]
    matrix = matrix[:rows, draw(st.integers(0, 2)) :: draw(st.sampled_from([1, 3]))][:, :columns]
    return matrix.t() if draw(st.booleans()) else matrix


@settings(max_examples=80, deadline=None)
@given(strided_matrices(), st.integers(1, 50), st.booleans(), st.booleans())
def test_products_of_any_layout(a, count, transposed, biased):
    b = random(a.shape[1], count, seed=1).t() if transposed else random(count, a.shape[1], seed=1)
    bias = random(count, seed=2) if biased else None
    exact = F.linear(a.double(), b.double(), None if bias is None else bias.double())
    torch.testing.assert_close(product(a, b, bias).double(), exact, rtol=1e-5, atol=2e-5)
    exact = a.double().t() @ a.double()[:, :1]
    torch.testing.assert_close(sum_of_products(a, a[:, :1]).double(), exact, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape, channels", [((2, 700, 96), 64), ((5000, 40), 200), ((1, 3, 200, 64), 64)])
def test_linear_and_its_gradients(shape, channels, bias):
    inputs = random(*shape), random(channels, shape[-1], seed=1), random(channels, seed=2) if bias else None
    double = [None if x is None else x.double() for x in inputs]
    assert runs_on_onednn(inputs[0])
    assert_as_exact_as(gradients(linear, *inputs), gradients(F.linear, *inputs), gradients(F.linear, *double))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_after_a_norm(bias):
    norm, layer = nn.LayerNorm(96, eps=1e-6), nn.Linear(96, 128, bias=bias)
    for i, parameter in enumerate((*norm.parameters(), *layer.parameters())):
        parameter.data.copy_(random(*parameter.shape, seed=i))
    x = random(2, 700, 96) * 3 + 1

    def run(function, dtype):
        norm.to(dtype), layer.to(dtype)
        parameters = (*norm.parameters(), *layer.parameters())
        y = function(own := x.to(dtype).requires_grad_())
        return y, *torch.autograd.grad(y, (own, *parameters), random(*y.shape, seed=9).to(dtype))

    exact = run(lambda x: layer(norm(x)), torch.float64)
    theirs = run(lambda x: layer(norm(x)), torch.float32)
    assert_as_exact_as(run(lambda x: norm_linear(x, norm, layer), torch.float32), theirs, exact)


def test_normalised_inputs_are_not_kept():
    norm, layer = nn.LayerNorm(96), nn.Linear(96, 128)
    x = random(2, 700, 96).requires_grad_()
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        norm_linear(x, norm, layer)
    known = {tensor.data_ptr() for tensor in (x, *norm.parameters(), *layer.parameters())}
    assert kept and all(tensor.data_ptr() in known for tensor in kept)


@pytest.mark.parametrize("what", ["bfloat16", "float64", "autocast", "meta", "off"])
def test_everything_else_is_left_to_torch(what, monkeypatch):
    dtype = dict(bfloat16=torch.bfloat16, float64=torch.float64).get(what, torch.float32)
    x, weight = random(700, 96, dtype=dtype), random(128, 96, dtype=dtype, seed=1)
    if what == "meta":
        x, weight = x.to("meta"), weight.to("meta")
    if what == "off":
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with torch.autocast("cpu", torch.bfloat16, enabled=what == "autocast"):
        assert not runs_on_onednn(x, weight)
        ours, theirs = linear(x, weight), F.linear(x, weight)
    assert ours.dtype == theirs.dtype and ours.device == theirs.device
    if what != "meta":
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_no_rows_and_frozen_weights():
    assert linear(torch.zeros(0, 96), random(128, 96)).shape == (0, 128)
    x = random(700, 96).requires_grad_()
    linear(x, random(128, 96)).sum().backward()
    assert x.grad is not None


def test_recomputed_layers_are_recomputed():
    """Gradient checkpointing knows about all tensors that the layer keeps."""
    layer = nn.Sequential(nn.Linear(96, 128), nn.Linear(128, 64))
    x = random(700, 96).requires_grad_()
    plain = torch.autograd.grad(apply_layer(layer, x).square().sum(), (x, *layer.parameters()))
    again = checkpoint(apply_layer, layer, x, use_reentrant=False)
    again = torch.autograd.grad(again.square().sum(), (x, *layer.parameters()))
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)


def test_subclasses_keep_their_forward():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(96, 96), Doubled(96, 96))
    x = random(700, 96)
    torch.testing.assert_close(apply_layer(model, x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["norm hook", "layer hook", "norm forward", "adapter"])
def test_what_users_change_is_respected(change):
    """Adapters, hooks and replaced forwards of a layer or of its norm are called."""
    norm, layer = nn.LayerNorm(96), nn.Linear(96, 128)
    if change == "norm hook":
        norm.register_forward_hook(lambda module, inputs, output: output * 0)
    if change == "layer hook":
        layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0,))
    if change == "norm forward":
        norm.forward = lambda x: x * 0
    if change == "adapter":
        nn.utils.parametrize.register_parametrization(layer, "weight", Zero())
    torch.testing.assert_close(norm_linear(random(700, 96), norm, layer), layer.bias.expand(700, -1))


class Zero(nn.Module):
    """A parametrization that sets a weight to zero."""

    def forward(self, weight):
        return weight * 0


SCRIPT = """
import torch
from maskfeat_plugin.registry import MODELS
arch = dict(embed_dims=32, num_layers=3, num_heads=1, downscale_indices=[1], dim_mul_indices=[1])
model = MODELS.build(dict(type="maskfeat.MaskedMViT", arch=arch, temporal_size=8, spatial_size=128)).train()
mask = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).argsort(-1) < 6
model(torch.rand(2, 3, 8, 128, 128), mask).sum().backward()
"""


def test_no_product_of_a_training_step_takes_the_plain_loop(tmp_path):
    """For memory layouts that oneDNN does not support, it is a hundred times slower without a warning."""
    environment = dict(os.environ, ONEDNN_VERBOSE="profile_exec")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    products = [line for line in done.stdout.splitlines() if ",inner_product," in line]
    assert len(products) > 50
    assert not [line for line in products if ",ref" in line]
