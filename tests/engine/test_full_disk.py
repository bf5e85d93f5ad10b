"""Trainings whose log, curves and pictures cannot be written continue, and warn once."""

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from full_disk import REASON, full_disk
from mmengine.hooks import Hook
from mmengine.registry import VISBACKENDS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.files import unfinished_path
from maskfeat_plugin.registry import HOOKS

CONFIG = Path(__file__).parents[2] / "configs" / "demo" / "maskfeat_mvit-tiny_moving-digits.py"
STEPS = 6


@HOOKS.register_module(force=True)
class FullDiskFromHereInTest(Hook):
    """Hook that leaves no space for curves, pictures, animations and the text log between two iterations."""

    priority = "HIGHEST"

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        folder = Path(runner.log_dir, "vis_data")
        scalars, pictures = folder / "scalars.json", folder / "vis_image"
        steps = range(1, STEPS + 1)
        names = [unfinished_path(pictures / f"prediction_0_{i}.{ending}") for i in steps for ending in ("png", "gif")]
        if runner.iter == 2:
            scalars.rename(folder / "kept")
            for path in (scalars, *names):
                path.symlink_to("/dev/full")
        if runner.iter == 4:
            for path in (scalars, *names):
                path.unlink(missing_ok=True)
            (folder / "kept").rename(scalars)


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a config that trains a few steps, each with a line in the log and a picture."""
    monkeypatch.chdir(digits)
    config = load_config(str(CONFIG), str(tmp_path / "work"))
    config.experiment_name = f"full_disk_{time.monotonic_ns()}"  # otherwise two runners in the same second share it
    config.train_dataloader.batch_size = 2
    config.train_cfg.max_iters = STEPS
    config.param_scheduler = None
    config.visualizer.type = "maskfeat.MaskFeatVisualizer"
    config.default_hooks.logger.interval = 1
    config.default_hooks.visualization = dict(type="maskfeat.MaskFeatVisualizationHook", interval=1, indices=(0,))
    return config


def test_curves_and_pictures(cfg):
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="maskfeat.FullDiskFromHereInTest")]
    runner = build_trainer(cfg)
    train(runner)
    folder = Path(runner.log_dir, "vis_data")
    lines = [json.loads(line) for line in (folder / "scalars.json").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 5, 6]
    names = {path.name for path in (folder / "vis_image").iterdir()}
    assert names == {f"prediction_0_{i}.{ending}" for i in (0, 1, 2, 5, 6) for ending in ("gif", "png")}
    (log,) = Path(runner.log_dir).glob("*.log")
    text = log.read_text()
    for lost in (folder, folder / "vis_image"):
        assert text.count(f"Curves and pictures in {lost} cannot be written: No space left on device.") == 1
    assert Path(cfg.work_dir, f"iter_{STEPS}.pth").is_file()


def test_records_of_tensorboard(tmp_path):
    backend = VISBACKENDS.build(dict(type="TensorboardVisBackend", save_dir=str(tmp_path)))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for step in range(6):
        with full_disk() if step in (2, 3) else nullcontext():
            backend.add_image("picture", picture, step)
            backend.experiment.flush()
        backend.add_scalar("loss", 1.0, step)
        backend.experiment.flush()
    backend.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("picture")] == [0, 1, 4, 5]
    assert [event.step for event in events.Scalars("loss")] == list(range(6))


def test_text_log(cfg, capsys):
    cfg.default_hooks.pop("visualization")
    cfg.train_cfg.max_iters = 2
    runner = build_trainer(cfg)
    (log,) = (handler for handler in runner.logger.handlers if hasattr(handler, "baseFilename"))
    kept = os.dup(log.stream.fileno())
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), log.stream.fileno())
        train(runner)
    os.dup2(kept, log.stream.fileno())
    os.close(kept)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert errors.count(f"warning: {log.baseFilename} cannot be written: No space left on device.") == 1
    runner.logger.info("There is room again.")
    assert "There is room again." in Path(log.baseFilename).read_text()
    assert Path(cfg.work_dir, "iter_2.pth").is_file()


def test_full_disk_at_the_start(cfg):
    with full_disk(), pytest.raises(ConfigError, match=f"work_dir=.*nothing can be written there: {REASON}"):
        build_trainer(cfg)


@HOOKS.register_module(force=True)
class FullFileInTest(Hook):
    """Hook that writes to a full disk when it is built or in the first step of training."""

    def __init__(self, at):
        self.at = at
        self._write("build")

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._write("step")

    def _write(self, at):
        if at == self.at:
            Path("/dev/full").write_text("a")


@pytest.mark.parametrize("at", ["build", "step"])
def test_no_setting_is_blamed_for_a_full_disk(cfg, at):
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="maskfeat.FullFileInTest", at=at)]
    with pytest.raises(OSError, match="No space left on device"):
        train(build_trainer(cfg))
