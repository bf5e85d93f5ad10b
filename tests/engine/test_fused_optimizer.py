"""Fused AdamW, which the full-size configs use: the same steps, and the same care for gradients of mixed precision."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from torch import nn

from maskfeat_plugin.engine.hooks.non_finite_loss_hook import NonFiniteLossHook
from maskfeat_plugin.engine.hooks.training_state_hook import _log_grad_norm
from maskfeat_plugin.engine.optim_wrappers import gradient_scaling

SCHEDULES = sorted((Path(__file__).parents[2] / "configs" / "_base_" / "schedules").glob("*.py"))


def model_and_optimizer(fused):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.05, fused=fused)


def test_full_size_schedules_use_it():
    settings = [Config.fromfile(path).optim_wrapper for path in SCHEDULES]
    large = [one for one in settings if one.get("type") == "AmpOptimWrapper" and one.optimizer.type == "AdamW"]
    assert len(large) >= 6
    assert all(one.optimizer.fused is True for one in large)


def test_steps_are_the_same():
    results = []
    for fused in (True, False):
        model, optimizer = model_and_optimizer(fused)
        for step in range(20):
            x = torch.randn(4, 8, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.02)
            optimizer.step()
        results.append([p.detach() for p in model.parameters()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_a_scaler_leaves_infinite_gradients_out(fused, clip):
    """NonFiniteLossHook then does nothing, and the logged norm is the norm of the unscaled gradients."""
    model, optimizer = model_and_optimizer(fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    hook, hub = NonFiniteLossHook(), MessageHub.get_instance("fused")
    hub.log_scalars.clear()
    optimizer.register_step_pre_hook(hook._check_gradients)
    optimizer.register_step_pre_hook(lambda *args: _log_grad_norm(hub, "norm", *args))
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    for is_bad in (False, True):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss = model(x).square().mean()
        expected = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        scaler.scale(loss).backward()
        if is_bad:
            model[0].weight.grad[0, 0] = math.inf
        if clip:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        changed = any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
        assert changed != is_bad and not any(hook._left_out)
        assert all(torch.isfinite(p).all() for p in model.parameters())
        if not is_bad:
            assert hub.get_scalar("norm").current() == pytest.approx(float(nn.utils.get_total_norm(expected)), rel=1e-5)
    assert scaler.get_scale() == 512.0
    assert gradient_scaling(optimizer) is None
