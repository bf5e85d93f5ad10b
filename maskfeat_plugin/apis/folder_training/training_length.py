"""Length of a training: its number of steps, and the time of a step on this machine."""

import copy
import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from torch.utils.data import DataLoader

from maskfeat_plugin.config import check
from maskfeat_plugin.config.folder_data import complete_endings
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.running.log_streams import quiet

from ..model_loading import build_model

_WARM_UP = 1  # steps that are not timed
_MOST_STEPS = 10
_PICTURES = 5  # number of times that predictions are drawn, checkpoints are written and validation runs
_WARM_UP_SHARE = 0.1


def set_length(cfg: Config, steps: int) -> None:
    """Set the number of training steps of a config, and all settings that depend on it.

    The learning rate rises during the first tenth of the steps, and then decreases along a cosine to the last step.

    Args:
        cfg (Config): The config; it is changed.
        steps (int): Number of steps, at least 1.
    """
    every = max(1, steps // _PICTURES)
    warm_up = round(_WARM_UP_SHARE * steps)
    cosine = dict(type="CosineAnnealingLR", by_epoch=False, begin=warm_up, eta_min_ratio=0.01)
    cfg.param_scheduler = [cosine]
    if warm_up > 1:
        cfg.param_scheduler.insert(0, dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=warm_up))
    else:
        cosine["begin"] = 0
    cfg.train_cfg = dict(type="maskfeat.IterBasedTrainLoop", max_iters=steps)
    if cfg.get("val_dataloader") is not None:
        cfg.train_cfg.val_interval = every
    cfg.log_processor = dict(by_epoch=False)
    cfg.default_hooks.logger.interval = max(1, min(50, steps // 20))
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=every)
    for hook in cfg.get("custom_hooks") or []:
        if "VisualizationHook" in hook["type"]:
            hook["interval"] = every


def measure_step(cfg: Config, seconds: float = 15.0) -> float:
    """Measure the time of a training step, by a few real steps with the data and the optimizer of the config.

    The model is not used afterwards, and a later training does not change.

    Args:
        cfg (Config): Config of a training.
        seconds (float): After this time no further step begins. Defaults to 15.

    Returns:
        float: Seconds of a step, including reading of the data.

    Raises:
        ConfigError: If the config does not work.
    """
    check(cfg, "train")
    complete_endings(cfg)
    cfg = copy.deepcopy(cfg)
    set_random_seed(cfg.randomness.seed)
    with quiet():
        model = build_model(cfg)[0].to("cuda" if torch.cuda.is_available() else "cpu").train()
        with named_errors(cfg, "fails in the first step of training"):
            with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
                wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
                loader = Runner.build_dataloader(cfg.train_dataloader, seed=cfg.randomness.seed)
                return _time_steps(model, wrapper, loader, seconds)


def _time_steps(model: Any, wrapper: Any, loader: DataLoader, seconds: float) -> float:
    begin = start = time.perf_counter()
    for number, batch in enumerate(_endless(loader)):
        model.train_step(batch, wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if number < _WARM_UP:
            start = now
        timed = number + 1 - _WARM_UP
        if timed >= 1 and (now - begin > seconds or timed == _MOST_STEPS):
            return (now - start) / timed
    raise AssertionError("an endless iterator ended")


def _endless(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def describe_duration(seconds: float) -> str:
    """Return a duration as text, such as "40 seconds", "12 minutes" or "3.5 hours".

    Args:
        seconds (float): The duration.
    """
    if seconds < 1.5:
        return "1 second"
    if seconds < 90:
        return f"{round(seconds)} seconds"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 86400:.1f} days"
