"""Tests of the comparisons with mmpretrain, timm and torchvision: both sides have the same losses around a step."""

from importlib.util import find_spec

import pytest
import torch

from projects.benchmark.finetuning import image_finetuning, torchvision_finetuning
from projects.benchmark.rows import SMALL_VIT, compiled_pretraining, fused_optimizer

CPU = torch.device("cpu")


def assert_equal_losses(comparison):
    losses = [(comparison.ours(), comparison.theirs()) for _ in range(2)]
    torch.testing.assert_close(*map(torch.stack, zip(*losses, strict=True)), rtol=1e-4, atol=1e-5)
    assert losses[1][0] < losses[0][0]


@pytest.mark.long
def test_torchvisions_mvit():
    assert_equal_losses(torchvision_finetuning(CPU))


@pytest.mark.long
def test_vits_and_the_row_that_is_left_out():
    rows = image_finetuning(CPU, batch_size=1)
    assert [bool(row.missing) for row in rows] == [False, find_spec("timm") is None]
    for row in rows:
        if not row.missing:
            assert_equal_losses(row)


@pytest.mark.long
def test_a_compiled_step_and_a_fused_optimizer():
    torch._dynamo.reset()
    assert_equal_losses(compiled_pretraining(CPU, 1, "base", compiler="eager"))
    torch._dynamo.reset()
    comparison = fused_optimizer(CPU)
    comparison.ours(), comparison.theirs()


@pytest.mark.long
def test_the_default_backend_on_a_cpu():
    torch._dynamo.reset()
    comparison = compiled_pretraining(CPU, 2, SMALL_VIT)
    if comparison.missing:  # a machine without a C++ compiler
        assert "C++ compiler" in comparison.missing
        return
    assert_equal_losses(comparison)
    torch._dynamo.reset()
