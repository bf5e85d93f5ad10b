"""Attention computed for blocks of queries is equal to ordinary attention."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.ops.blockwise_attention import attend_in_blocks, attends_in_blocks


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
