"""Layers computed by fast paths have the results and gradients of the called layers."""

import pytest
import torch
from mmaction.models.backbones.mvit import MLP, attention_pool
from random_weights import assert_near, random, randomise
from torch import nn

from maskfeat_plugin.ops.gate import fast_paths
from maskfeat_plugin.ops.layers import fuses_mlp, norm_mlp, pool_tokens


def test_mlp_keeps_its_input_alone():
    norm, mlp = randomise(nn.LayerNorm(64)), randomise(MLP(64, 256, 96))
    x = random(2, 20_000, 64).requires_grad_()  # more than one part
    inputs = (x, *norm.parameters(), *mlp.parameters())
    grad = random(2, 20_000, 96, seed=1)
    theirs = mlp(norm(x))
    theirs = [theirs, *torch.autograd.grad(theirs, inputs, grad)]
    assert fuses_mlp(x, norm, mlp)
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ours = norm_mlp(x, norm, mlp)
    assert {tensor.data_ptr() for tensor in kept} == {tensor.data_ptr() for tensor in inputs}
    assert_near([ours, *torch.autograd.grad(ours, inputs, grad)], theirs)


@pytest.mark.parametrize("which", ["fc1", "fc2"])
def test_an_mlp_without_a_bias_is_called(which):
    norm, mlp = nn.LayerNorm(64), MLP(64, 256, 96)
    setattr(mlp, which, nn.Linear(*((64, 256) if which == "fc1" else (256, 96)), bias=False))
    assert not fuses_mlp(random(2, 50, 64), norm, mlp)


def test_the_switch_leaves_layers_to_torch():
    norm, mlp, x = nn.LayerNorm(64), MLP(64, 256, 96), random(2, 50, 64)
    assert fuses_mlp(x, norm, mlp)
    with fast_paths(False):
        assert not fuses_mlp(x, norm, mlp)
        with fast_paths(True):
            assert fuses_mlp(x, norm, mlp)
        assert not fuses_mlp(x, norm, mlp)
    assert fuses_mlp(x, norm, mlp)


def steps(tensor):
    """Return the names of all steps of a backward pass."""
    names, left = set(), [tensor.grad_fn]
    while left:
        step = left.pop()
        if step is not None:
            names.add(step.name())
            left.extend(following for following, _ in step.next_functions)
    return names


def test_max_pooling_of_tokens_and_its_gradient():
    pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    x = random(2, 1 + 3 * 9 * 8, 16).requires_grad_()
    theirs, _ = attention_pool(x, pool, (3, 9, 8), with_cls_token=True)
    ours = pool_tokens(x, pool, (3, 9, 8), 1)
    assert "_MaxPoolBackward" in steps(ours) and "_MaxPoolBackward" not in steps(theirs)
    assert torch.equal(ours, theirs)
    grad = random(*ours.shape, seed=1)
    assert torch.equal(*(torch.autograd.grad(y, x, grad)[0] for y in (ours, theirs)))
