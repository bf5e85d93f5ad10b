"""The full-size configs equal the released recipes: optimizer groups, and the learning rate at every iteration."""

import math
import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope

import maskfeat_plugin  # noqa: F401


def expected_layer(name, num_layers):
    """Return the layer: 0 for tokens, positions and embedding, i + 1 for block i, num_layers + 1 for the rest."""
    if re.match(r"backbone\.(cls_token|pos_embed|mask_token|patch_embed\.)", name):
        return 0
    block = re.match(r"backbone\.(?:layers|blocks)\.(\d+)\.", name)
    return int(block[1]) + 1 if block else num_layers + 1


def test_parameter_groups(recipe):
    cfg = recipe.config()
    cfg.optim_wrapper.type = "OptimWrapper"  # mixed precision needs a GPU
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    lr = recipe.lr * recipe.scale()
    names = {id(p): name for name, p in model.named_parameters()}
    seen = {}
    for group in optimizer.param_groups:
        assert group["betas"] == (0.9, 0.999) if recipe.optimizer == "AdamW" else group["momentum"] == 0.9
        for parameter in group["params"]:
            seen[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    expected = {}
    for name, parameter in model.named_parameters():
        scale = recipe.layer_decay ** (recipe.num_layers + 1 - expected_layer(name, recipe.num_layers))
        expected[name] = (pytest.approx(lr * scale, rel=1e-9), 0.0 if parameter.dim() == 1 else recipe.weight_decay)
    assert seen == expected
    layers = recipe.num_layers + 2 if recipe.layer_decay < 1 else 1
    assert len(optimizer.param_groups) <= 2 * layers


def recipe_lr(recipe, epoch):
    """Compute the authors' learning rate: linear warm-up, then half a cosine, by epochs and fractions of them."""
    peak, start, end = (value * recipe.scale() for value in (recipe.lr, recipe.lr_start, recipe.lr_end))
    if epoch < recipe.warmup_epochs:
        return start + (peak - start) * epoch / recipe.warmup_epochs
    progress = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return end + (peak - end) * (1 + math.cos(math.pi * progress)) / 2


def test_learning_rate_at_every_iteration(recipe):
    cfg = recipe.config()
    iters = 7  # per epoch
    peak = recipe.lr * recipe.scale()
    groups = [dict(params=[torch.zeros(1)], lr=peak * scale) for scale in (1.0, 0.25)]
    optimizer = torch.optim.SGD(groups)
    built = dict(optimizer=optimizer, epoch_length=iters)
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=built) for scheduler in cfg.param_scheduler]
    seen = []
    for _ in range(recipe.epochs * iters):
        seen.append([group["lr"] for group in optimizer.param_groups])
        for scheduler in schedulers:
            scheduler.step()
    expected = [recipe_lr(recipe, i / iters) for i in range(recipe.epochs * iters)]
    # mmengine ends the warm-up one iteration early
    tolerance = 1.01 * peak / (recipe.warmup_epochs * iters)
    seen = torch.tensor(seen, dtype=torch.float64)
    torch.testing.assert_close(seen[:, 0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=tolerance)
    torch.testing.assert_close(seen[:, 1], seen[:, 0] * 0.25, rtol=1e-9, atol=0)  # every layer has its share
    assert seen[:, 0].argmax() in (recipe.warmup_epochs * iters - 1, recipe.warmup_epochs * iters)
    # both final rates are far below the tolerance
    assert seen[0, 0].item() == pytest.approx(recipe.lr_start * recipe.scale(), rel=1e-6)
    last = recipe_lr(recipe, recipe.epochs - 1 / iters)
    assert recipe.lr_end * recipe.scale() * (1 - 1e-9) <= seen[-1, 0] <= last * (1 + 1e-6)


def test_rest_of_the_recipe(recipe):
    cfg = recipe.config()
    assert cfg.train_cfg.max_epochs == recipe.epochs
    assert cfg.optim_wrapper.optimizer.type == recipe.optimizer
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(recipe.lr * recipe.scale(), rel=1e-9)
    assert cfg.auto_scale_lr.enable
    clip_grad = cfg.optim_wrapper.get("clip_grad")
    assert (clip_grad.max_norm if clip_grad else None) == recipe.clip_grad
    assert cfg.model.backbone.drop_path_rate == recipe.drop_path_rate
    # the name contains the epochs and processes x batch, for which the learning rate is set
    assert f"-{recipe.epochs}e_" in recipe.path
    assert cfg.auto_scale_lr.base_batch_size == recipe.scale() * recipe.per
    assert f"xb{cfg.train_dataloader.batch_size}-" in recipe.path
