"""Records of a real training: the text log, the JSON and TensorBoard's files are read again."""

import json
import math
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from warm_python import python

from maskfeat_cli.named_configs import named_configs
from maskfeat_plugin.apis import build_trainer, load_config
from maskfeat_plugin.registry import HOOKS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
LOGGED = {
    "loss",
    "grad_norm",
    "lr",
    "mask_ratio",
    "time",
    "data_time",
    "samples_per_second",
    "host_memory",
    "seconds_left",
}
CLIPS = "demo/maskfeat_mvit-tiny_moving-digits.py"
IMAGES = "demo/maskfeat_vit-tiny_moving-digits.py"
TWO_VIEWS = "contrast/maskfeat-moco_vit-tiny_moving-digits.py"


@pytest.fixture
def cfg(digits, tmp_path, monkeypatch):
    """Return a reader of the demo's configs that train 6 steps of 4 samples and log every second step."""
    monkeypatch.chdir(digits)

    def read(path, **options):
        config = load_config(str(CONFIGS / path), str(tmp_path / "work"))
        config.experiment_name = f"state_{time.monotonic_ns()}"  # by default two runners in the same second share it
        config.train_dataloader.update(batch_size=4)
        config.train_cfg.max_iters = 6
        config.param_scheduler = None
        config.default_hooks.checkpoint.interval = 6
        config.default_hooks.logger.interval = 2
        config.merge_from_dict(options)
        return config

    return read


def read_json(work_dir):
    (file,) = Path(work_dir).glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in file.read_text().splitlines()]


def read_tensorboard(work_dir):
    """Return name -> [(step, value)]."""
    (file,) = Path(work_dir).rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("path", [CLIPS, IMAGES])
def test_every_log_has_the_state_of_training(cfg, path):
    config = cfg(path)
    build_trainer(config).train()
    lines = read_json(config.work_dir)
    assert [line["step"] for line in lines] == [2, 4, 6]
    for line in lines:
        assert line.keys() >= LOGGED
        assert all(math.isfinite(line[key]) and line[key] >= 0 for key in LOGGED)
    assert lines[-1]["seconds_left"] == 0 < lines[0]["seconds_left"]
    assert 0.3 < lines[0]["mask_ratio"] < 0.5
    assert 50 < lines[0]["host_memory"] < 1e5  # MB
    scalars = read_tensorboard(config.work_dir)
    assert scalars.keys() >= LOGGED
    for key in LOGGED:
        assert scalars[key] == [(line["step"], pytest.approx(line[key], rel=1e-5)) for line in lines]
    (text,) = Path(config.work_dir).glob("*/*.log")
    rows = [row for row in text.read_text().splitlines() if "Iter(train)" in row]
    assert len(rows) == 3
    for row in rows:
        assert re.search(r"eta: \d+:\d\d:\d\d  time: [\d.]+  data_time: [\d.]+ ", row)
        assert all(f"{key}: " in row for key in LOGGED)


@pytest.mark.parametrize("path", [IMAGES, TWO_VIEWS])
def test_throughput_is_samples_over_time(cfg, path):
    """The rate is the samples of the window divided by its seconds, which are in the same log."""
    config = cfg(path, **{"default_hooks.logger.interval": 6})
    build_trainer(config).train()
    (line,) = read_json(config.work_dir)
    assert line["samples_per_second"] == pytest.approx(4 / line["time"], rel=1e-5)


class KeepsGradients(Hook):
    """Hook that computes the norm of each step's gradients in another way than the tested hook."""

    priority = "LOWEST"

    def before_train(self, runner):
        self.norms = []
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.keep)

    def keep(self, optimizer, args, kwargs):
        total = sum(float(p.grad.double().pow(2).sum()) for g in optimizer.param_groups for p in g["params"])
        self.norms.append(math.sqrt(total))


def norms_of(config):
    runner = build_trainer(config)
    hook = KeepsGradients()
    runner.register_hook(hook)
    runner.train()
    logged = runner.message_hub.get_scalar("train/grad_norm").data[0]
    weights = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    return hook.norms, list(logged), weights


def test_gradients_are_measured_where_nothing_clips_them(cfg):
    config = cfg(IMAGES)
    config.optim_wrapper.pop("clip_grad")
    measured, logged, _ = norms_of(config)
    assert len(logged) == 6
    assert logged == pytest.approx(measured, rel=1e-5)


def test_gradients_are_logged_once_where_they_are_clipped(cfg):
    measured, logged, _ = norms_of(cfg(IMAGES, **{"optim_wrapper.clip_grad.max_norm": 1e-3}))
    assert len(logged) == 6 and min(logged) > 1e-2
    assert measured == pytest.approx([1e-3] * 6, rel=1e-2)


def test_gradients_of_accumulated_steps(cfg):
    """There is one norm per optimizer step, not per batch."""
    config = cfg(IMAGES, **{"optim_wrapper.accumulative_counts": 3})
    config.optim_wrapper.pop("clip_grad")
    measured, logged, _ = norms_of(config)
    assert len(logged) == 2
    assert logged == pytest.approx(measured, rel=1e-5)


def test_measuring_does_not_change_training(cfg):
    without, measured = cfg(IMAGES), cfg(IMAGES)
    for config in (without, measured):
        config.optim_wrapper.pop("clip_grad")
    without.default_hooks.pop("training_state")
    runner = build_trainer(without)
    runner.train()
    _, _, weights = norms_of(measured)
    assert all(torch.equal(weights[name], p) for name, p in runner.model.named_parameters())


def test_scheduled_ratio_is_logged_once(cfg):
    """MaskRatioHook's value is logged, with one entry per step."""
    schedule = dict(type="linear", ratio=0.8)
    config = cfg(IMAGES, custom_hooks=[dict(type="maskfeat.MaskRatioHook", by_epoch=False, schedule=schedule)])
    runner = build_trainer(config)
    runner.train()
    assert list(runner.message_hub.get_scalar("train/mask_ratio").data[0]) == pytest.approx(
        [0.4 + 0.4 * i / 5 for i in range(6)]
    )


def test_supervised_training_has_no_ratio(cfg):
    config = cfg("demo/vit-tiny_moving-digits-class.py")
    build_trainer(config).train()
    assert read_json(config.work_dir)[0].keys() & {*LOGGED} == LOGGED - {"mask_ratio"}


def test_history_stays_short(cfg):
    config = cfg(IMAGES, **{"default_hooks.training_state.history": 2})
    runner = build_trainer(config)
    runner.train()
    assert {len(buffer.data[0]) for buffer in runner.message_hub.log_scalars.values()} == {2}
    checkpoint = torch.load(Path(config.work_dir) / "iter_6.pth", weights_only=True)
    assert len(checkpoint["message_hub"]["log_scalars"]["train/loss"].data[0]) == 2


def test_history_has_to_be_positive():
    with pytest.raises(ValueError, match="history=0"):
        HOOKS.build(dict(type="maskfeat.TrainingStateHook", history=0))


def test_only_the_first_process_writes(cfg, tmp_path):
    config = cfg(IMAGES)
    config.dump(tmp_path / "config.py")
    tool = [str(ROOT / "tools" / "train.py"), str(tmp_path / "config.py"), "--launcher", "pytorch"]
    options = ["--cfg-options", "env_cfg.dist_cfg.backend=gloo", "experiment_name=two_processes"]
    done = subprocess.run(
        [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *tool, *options],
        env=os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = read_json(config.work_dir)  # one file that has each step once
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert [step for step, _ in read_tensorboard(config.work_dir)["loss"]] == [2, 4, 6]
    assert lines[-1]["samples_per_second"] == pytest.approx(8 / lines[-1]["time"], rel=1e-2)


def names_of(config, key):
    node = config
    for part in key.split("."):
        node = node.get(part) or {}
    return [item.type for item in (node.values() if isinstance(node, dict) else node)]


@pytest.mark.parametrize("path", sorted(str(p.relative_to(CONFIGS)) for p in named_configs().values()))
def test_every_config_logs_it(path):
    config = Config.fromfile(CONFIGS / path)
    assert "maskfeat.TrainingStateHook" in names_of(config, "default_hooks")
    assert set(names_of(config, "visualizer.vis_backends")) == {"LocalVisBackend", "TensorboardVisBackend"}
