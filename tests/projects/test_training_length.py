"""Tests of the length of a training, with the demo's configs and with a config that counts epochs."""

from pathlib import Path

import pytest
from mmengine.config import Config

from maskfeat_plugin.errors import ConfigError
from projects.demo.training_length import length_of, set_length

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"


def test_a_schedule_keeps_its_shape():
    cfg = Config.fromfile(CONFIGS / "maskfeat_vit-tiny_moving-digits.py")
    set_length(cfg, 300)
    warm_up, decay = cfg.param_scheduler
    assert (cfg.train_cfg.max_iters, cfg.max_iters, cfg.default_hooks.checkpoint.interval) == (300, 300, 300)
    assert (warm_up.end, decay.begin, decay.T_max) == (50, 50, 250)  # 200, 200 and 1000 of 1200
    epochs = Config(dict(train_cfg=dict(max_epochs=100), param_scheduler=dict(T_max=80, begin=20)))
    set_length(epochs, 10)
    assert epochs.train_cfg.max_epochs == 10 and epochs.default_hooks.checkpoint.by_epoch
    assert (epochs.param_scheduler.T_max, epochs.param_scheduler.begin) == (8, 2)


@pytest.mark.parametrize("name", ["maskfeat_vit-tiny_moving-digits.py", "maskfeat_mvit-tiny_moving-digits.py"])
def test_the_same_length_changes_nothing(name):
    cfg, same = (Config.fromfile(CONFIGS / name) for _ in range(2))
    set_length(same, length_of(same))
    assert same.to_dict() == cfg.to_dict()


def test_a_config_without_a_length_is_refused():
    with pytest.raises(ConfigError, match="neither max_iters nor max_epochs"):
        length_of(Config(dict(train_cfg=dict())))
