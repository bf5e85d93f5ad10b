"""Tests of the comparisons with mmpretrain, timm and torchvision: both sides have the same losses around a step."""

from importlib.util import find_spec

import pytest
import torch

from projects.benchmark.finetuning import image_finetuning, torchvision_finetuning
from projects.benchmark.rows import compiled_pretraining, fused_optimizer

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
    assert [row.peer for row in rows] == ["mmpretrain", "timm"][: 1 + bool(find_spec("timm"))]
    for row in rows:
        assert_equal_losses(row)


@pytest.mark.long
def test_a_compiled_step_and_a_fused_optimizer():
    torch._dynamo.reset()
    assert_equal_losses(compiled_pretraining(CPU, batch_size=1, compiler="eager"))
    torch._dynamo.reset()
    comparison = fused_optimizer(CPU)
    comparison.ours(), comparison.theirs()
