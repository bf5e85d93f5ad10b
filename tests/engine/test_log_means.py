"""Values beside each other in the log are means over the same steps: in text, JSON, TensorBoard and report."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.hooks import Hook
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from maskfeat_plugin.apis import build_trainer, load_config
from maskfeat_plugin.training_report import write_training_report

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGES = "demo/maskfeat_vit-tiny_moving-digits.py"
SEVERAL = "targets/maskfeat-pixel-hog_vit-tiny_moving-digits.py"
CLASSES = "demo/vit-tiny_moving-digits-class.py"
CLIPS = "demo/mvit-tiny_moving-digits-motion.py"


class KeepsOutputs(Hook):
    """Hook that keeps all values that the model returned for each batch, before they are logged."""

    priority = "HIGHEST"

    def before_train(self, runner):
        self.outputs = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.outputs.append({name: float(value) for name, value in outputs.items()})


@pytest.fixture
def trained(digits, tmp_path, monkeypatch):
    """Train 12 steps of 4 samples and log every third. Return the JSON's lines, and the model's values per step."""
    monkeypatch.chdir(digits)

    def train(path, **options):
        config = load_config(str(CONFIGS / path), str(tmp_path / "work"))
        config.experiment_name = f"means_{time.monotonic_ns()}"
        config.train_dataloader.update(batch_size=4)
        config.train_cfg.max_iters = 12
        config.param_scheduler = config.val_dataloader = config.val_cfg = config.val_evaluator = None
        config.default_hooks.checkpoint.update(interval=12, save_best=None)
        config.default_hooks.logger.interval = 3
        config.merge_from_dict(options)
        runner = build_trainer(config)
        hook = KeepsOutputs()
        runner.register_hook(hook)
        runner.train()
        (file,) = Path(config.work_dir).glob("*/vis_data/scalars.json")
        return [json.loads(line) for line in file.read_text().splitlines()], hook.outputs, Path(config.work_dir)

    return train


def mean(outputs, name, step, window):
    return pytest.approx(np.mean([values[name] for values in outputs[max(step - window, 0) : step]]), rel=1e-5)


@pytest.mark.parametrize("path", [IMAGES, SEVERAL, CLASSES, CLIPS])
@pytest.mark.parametrize("window", [10, 2])
def test_all_values_of_batches_are_means_over_the_window(trained, path, window):
    lines, outputs, _ = trained(path, **{"log_processor.window_size": window})
    assert len(outputs) == 12 and {line["step"] for line in lines} >= {3, 6, 9, 12}
    for line in lines:
        for name in outputs[0]:
            assert line[name] == mean(outputs, name, line["step"], window), name


def test_accuracy_of_the_batches_of_a_recognizer(trained):
    """The accuracy is a value of the batch too."""
    lines, outputs, _ = trained(CLIPS)
    assert "top1_acc" in outputs[0] and lines[-1]["top1_acc"] == mean(outputs, "top1_acc", 12, 10)


def test_text_tensorboard_and_report_have_the_same_means(trained):
    lines, outputs, work_dir = trained(IMAGES)
    (text,) = work_dir.glob("*/*.log")
    rows = [row for row in text.read_text().splitlines() if "Iter(train)" in row]
    (events,) = work_dir.rglob("events.out.tfevents.*")
    curves = EventAccumulator(str(events)).Reload()
    page = write_training_report(work_dir).read_text()
    for name in ("loss", "baseline"):
        means = [mean(outputs, name, line["step"], 10) for line in lines]
        assert [float(re.search(rf" {name}: ([\d.]+)", row)[1]) for row in rows] == [
            pytest.approx(value.expected, abs=5e-5) for value in means
        ]
        assert [event.value for event in curves.Scalars(name)] == means
        assert f">{lines[-1][name]:.4g}<" in page


@pytest.mark.parametrize("name", [None, "loss_smooth", "smooth"])
def test_a_window_of_the_loss_is_one_of_the_baseline(trained, name):
    entry = dict(data_src="loss", method_name="mean", window_size=5, **({"log_name": name} if name else {}))
    lines, outputs, _ = trained(IMAGES, **{"log_processor.custom_cfg": [entry]})
    other = {None: "baseline", "loss_smooth": "baseline_smooth", "smooth": "smooth_baseline"}[name]
    for line in lines:
        assert line[name or "loss"] == mean(outputs, "loss", line["step"], 5)
        assert line[other] == mean(outputs, "baseline", line["step"], 5)


def test_a_pattern_of_ones_own_that_averages_nothing(trained):
    """Then neither the loss nor the other values are means."""
    lines, outputs, _ = trained(IMAGES, **{"log_processor.mean_pattern": "time"})
    for line in lines:
        for name in ("loss", "baseline"):
            assert line[name] == pytest.approx(outputs[line["step"] - 1][name], rel=1e-5)


def test_names_with_the_stage_before_them(trained):
    lines, outputs, _ = trained(IMAGES, **{"log_processor.log_with_hierarchy": True})
    for line in lines:
        for name in ("loss", "baseline"):
            assert line[f"train/{name}"] == mean(outputs, name, line["step"], 10)
