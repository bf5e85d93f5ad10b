"""The config key ``compile``: the same training, with the model compiled."""

import pytest
import torch
from long_variants import long_except

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.running.training import build_trainer, train

NAMES = ["maskfeat_vit-tiny_moving-digits", "vit-tiny_moving-digits-class"]


SHORT = {
    "train_cfg.max_iters": 3,
    "train_dataloader.batch_size": 2,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "default_hooks.checkpoint.interval": 3,
    "default_hooks.logger.interval": 1,
    "randomness.seed": 0,
}


def weights(name, folder, compile):
    cfg = load_config(name)
    cfg.merge_from_dict(SHORT)
    cfg.param_scheduler = []
    cfg.work_dir = str(folder)
    if compile is not None:
        cfg.compile = compile
    train(build_trainer(cfg))
    return torch.load(folder / "iter_3.pth", weights_only=False)["state_dict"]


@pytest.mark.parametrize("name", long_except(NAMES, 0))
def test_training_is_the_same(name, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    plain = weights(name, tmp_path / "plain", None)
    compiled = weights(name, tmp_path / "compiled", dict(backend="aot_eager"))
    assert compiled.keys() == plain.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-5)
    assert "is compiled" in next(iter((tmp_path / "compiled").glob("*/*.log"))).read_text()


def test_unknown_settings_are_one_error(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    with pytest.raises(ConfigError, match="compile={'speed': 11}"):
        weights(NAMES[0], tmp_path, dict(speed=11))
