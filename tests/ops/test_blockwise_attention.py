"""Attention computed for blocks of queries is equal to ordinary attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.ops.blockwise_attention import attend_in_blocks, attends_in_blocks
from maskfeat_plugin.ops.relative_attention import attend


def random(*size, seed=0, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 40),
    keys=st.integers(1, 30),
    positions=st.integers(0, 5),
    extra=st.integers(0, 1),
)
def test_attention_in_blocks(batch, heads, queries, keys, positions, extra):
    """Compare with the formula in double precision, with blocks of a few queries."""
    q, k, v = (random(batch, heads, n, 8, seed=i) for i, n in enumerate((queries, keys, keys)))
    by_position = random(batch, heads, queries, positions, seed=3)
    codes = random(1, 1, keys, positions, seed=4)

    def formula(q, by_position, k, v):
        logits = q @ k.transpose(2, 3) + by_position @ codes.to(q.dtype).transpose(2, 3)
        out = logits.softmax(-1) @ v
        out[:, :, extra:] += q[:, :, extra:]
        return out.transpose(1, 2).flatten(2)

    def blocks(q, by_position, k, v):
        return attend_in_blocks(q, by_position, k, codes, v, slice(extra, None))

    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskfeat_plugin.ops.blockwise_attention._BLOCK", 100)
        for function, dtype in ((blocks, torch.float32), (formula, torch.float64)):
            inputs = [t.to(dtype).requires_grad_() for t in (q, by_position, k, v)]
            out = function(*inputs)
            results.append([out, *torch.autograd.grad(out, inputs, random(*out.shape, seed=5).to(dtype))])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_small_attention_is_left_to_torch():
    large, small = random(1, 1, 1024, 8), random(1, 1, 64, 8)
    assert attends_in_blocks(large, large, large)
    assert not attends_in_blocks(small, small, small)
    assert not attends_in_blocks(*[large.double()] * 3)


@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16(autocast, monkeypatch):
    """Results and gradients are the formula's up to the rounding of bfloat16, also with many blocks."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("the processor has no instructions for bfloat16; the operations of torch are used there")
    monkeypatch.setattr("maskfeat_plugin.ops.blockwise_attention._BLOCK", 4000)
    monkeypatch.setattr("maskfeat_plugin.ops.blockwise_attention._LEAST_LOGITS", 0)
    sizes = dict(q=(1, 2, 300, 16), by_position=(1, 2, 300, 5), k=(1, 2, 40, 16), v=(1, 2, 40, 16))
    values = {name: random(*size, seed=i) / 2 for i, (name, size) in enumerate(sizes.items())}
    codes = random(40, 5, seed=9)
    dtype = torch.float32 if autocast else torch.bfloat16
    found = {name: value.to(dtype, copy=True).requires_grad_() for name, value in values.items()}
    expected = {name: value.double().requires_grad_() for name, value in values.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert attends_in_blocks(found["q"], found["k"], found["v"])
        out = attend(**found, positions=codes.to(found["q"].dtype), scale=0.3, residual_from=1)
    assert out.dtype == torch.bfloat16
    q, by_position, k, v = expected.values()
    logits = 0.3 * q @ k.transpose(2, 3) + by_position @ codes.double().t()
    reference = logits.softmax(-1) @ v
    reference = torch.cat((reference[:, :, :1], reference[:, :, 1:] + q[:, :, 1:]), dim=2).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out.double(), reference, rtol=0.02, atol=0.02)
    gradient = random(*reference.shape, seed=10)
    reference.backward(gradient.double())
    out.backward(gradient.to(out.dtype))
    for name, value in expected.items():
        error = (found[name].grad.double() - value.grad).abs().max()
        assert error <= 0.03 * value.grad.abs().max(), name
