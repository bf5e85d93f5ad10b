"""Default hooks that are set to None: training, testing and the report work without them."""

from pathlib import Path

import pytest

from maskfeat_plugin.apis import build_tester, build_trainer, load_config, train
from maskfeat_plugin.training_report import write_training_report

CONFIG = Path(__file__).parents[2] / "configs/demo/vit-tiny_moving-digits-class.py"
MMENGINES = ["runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint"]
OTHERS = ["visualization", "training_state", "non_finite_loss", "termination"]


FEW = [["logger"], MMENGINES + OTHERS, None]
SINGLE = [[name] for name in MMENGINES + OTHERS if name != "logger"]


@pytest.mark.parametrize("names", [*FEW, *(pytest.param(names, marks=pytest.mark.long) for names in SINGLE)])
def test_hooks_of_none(digits, tmp_path, monkeypatch, names):
    """``names=None`` sets ``default_hooks=None`` as a whole."""
    monkeypatch.chdir(digits)
    options = {
        "train_cfg.max_iters": 3,
        "train_cfg.val_interval": 2,
        "default_hooks.logger.interval": 1,
        "train_dataloader.batch_size": 2,
        "train_dataloader.dataset.indices": 8,
        "val_dataloader.dataset.indices": 4,
        "test_dataloader.dataset.indices": 4,
        "model.backbone.init_cfg": None,
        "param_scheduler": None,
    }
    cfg = load_config(str(CONFIG), str(tmp_path), options)
    if names is None:
        cfg.default_hooks = None
    for name in names or ():
        cfg.default_hooks[name] = None
    cfg.experiment_name = tmp_path.name
    runner = build_trainer(cfg)
    registered = {type(hook).__name__ for hook in runner.hooks}
    train(runner)
    assert runner.iter == 3
    assert ("LoggerHook" in registered) == (names is None or "logger" not in names)
    assert write_training_report(tmp_path, None).stat().st_size > 1000
    assert "accuracy/top1" in build_tester(cfg).test()


@pytest.mark.parametrize(
    "section", ["env_cfg", "randomness", "custom_hooks", "auto_scale_lr", "visualizer", "log_processor"]
)
def test_sections_of_none(digits, tmp_path, monkeypatch, section):
    monkeypatch.chdir(digits)
    cfg = load_config(str(CONFIG), str(tmp_path), {"model.backbone.init_cfg": None})
    cfg[section] = None
    cfg.experiment_name = tmp_path.name
    assert build_trainer(cfg).iter == 0
