"""Every config takes a training step: its own data pipeline, preprocessor, model and optimizer on real files."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, set_random_seed

import maskfeat_plugin  # noqa: F401

CONFIGS = Path(__file__).parents[2] / "configs"
PATHS = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.glob("*/*.py") if p.parent.name != "_base_")


def mark(path):
    return pytest.param(path, marks=pytest.mark.slow) if "mvit-small" in path or "large" in path else path


def shorten_clips(pipeline):
    """4 frames instead of 16: an MViT-L of full size then takes a step in 5 GB instead of 13."""
    for transform in pipeline:
        if transform.type == "SampleFrames":
            transform.clip_len = 4
        elif "token_grid" in transform:
            transform.token_grid, transform.window_size = (2, 14, 14), (2, 7, 7)


@pytest.mark.parametrize("path", [mark(p) for p in PATHS])
def test_training_step(path, use_data):
    cfg = Config.fromfile(CONFIGS / path)
    use_data(cfg.train_dataloader.dataset)
    if "mvit-large" in path:
        shorten_clips(cfg.train_dataloader.dataset.pipeline)
    cfg.train_dataloader.update(batch_size=1, num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.optim_wrapper.type = "OptimWrapper"  # mixed precision needs a GPU
    set_random_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        model = MODELS.build(cfg.model)
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        before = {name: p.detach().clone() for name, p in model.named_parameters() if p.numel() < 10_000}
        losses = model.train_step(batch, optim_wrapper)
    loss = losses["loss"].item()
    assert math.isfinite(loss) and loss > 0
    moved = [name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])]
    assert len(moved) > 0.9 * len(before)
