"""The demo's parts on a tiny MovingDigits: every step runs for real, only shorter."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config

from maskfeat_plugin.apis.demo import TASKS, finetune, format_table, orchestrate, pretrain, run_task
from maskfeat_plugin.apis.demo import report as demo_report
from maskfeat_plugin.apis.demo import train as demo_train
from maskfeat_plugin.apis.demo.tasks import CONFIGS, LIVE, ROOT, SCRATCH, SHIPPED
from maskfeat_plugin.apis.demo.train import export_weights, predict
from maskfeat_plugin.datasets.moving_digits import build_moving_digits

SHORT = {"max_iters": 3, "train_cfg.max_iters": 3, "default_hooks.checkpoint.interval": 3}
SHORT |= {"train_dataloader.batch_size": 8, "param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)]}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    config = dataclasses.replace(orchestrate.DATA, num_train=120, num_val=16, num_test=24, labelled=(40,))
    root = tmp_path_factory.mktemp("data") / "moving_digits"
    return build_moving_digits(root, config, progress=False)


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return dataclasses.replace(TASKS[request.param], labels=40)


@pytest.fixture(scope="module")
def run(task, data_root, tmp_path_factory):
    lines = []
    work_dir = tmp_path_factory.mktemp(task.name)
    outcome = pretrain(task, task.pretrain_config, work_dir, lines.append, data_root, SHORT)
    return dict(outcome, lines=lines)


def test_pretraining_logs_the_loss_beside_that_of_the_mean(run):
    assert len(run["loss"]) == len(run["baseline"]) == len(run["steps"]) == 3
    assert all(0 < v < 1 for v in run["loss"] + run["baseline"])
    assert re.search(r"step 3 of 3, loss 0\.\d+ \(predicting the mean: 0\.\d+\), about 0 s left", run["lines"][-1])
    json.dumps({k: v for k, v in run.items() if k != "lines"})


@pytest.mark.parametrize("pretrained", [False, True])
def test_finetuning_ends_in_the_frameworks_accuracy(task, run, data_root, tmp_path, pretrained):
    checkpoint = run["checkpoint"] if pretrained else None
    options = {**SHORT, "train_cfg.val_interval": 3}
    accuracy = finetune(task, checkpoint, 0, tmp_path / "a", lambda line: None, data_root, options)
    again = finetune(task, checkpoint, 0, tmp_path / "b", lambda line: None, data_root, options)
    assert 0 <= accuracy <= 100 and accuracy == again  # the same seed gives the same numbers


def test_pretrained_weights_are_where_finetuning_starts(task, run, data_root, tmp_path):
    """With a learning rate of 0 the fine-tuned backbone is the pre-trained one."""
    options = {**SHORT, "train_cfg.val_interval": 3, "optim_wrapper.optimizer.lr": 0.0}
    finetune(task, run["checkpoint"], 0, tmp_path, lambda line: None, data_root, options)
    before = torch.load(run["checkpoint"], weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "iter_3.pth", weights_only=True)["state_dict"]
    shared = [k for k in after if k in before and k.startswith("backbone.") and not re.search(r"norm\d|ln1\.", k)]
    assert len(shared) > 20
    assert all(torch.equal(before[k], after[k]) for k in shared)


def test_shipped_weights_are_the_checkpoints_rounded(run, tmp_path):
    target = tmp_path / "weights" / "shipped.pth"
    export_weights(run["checkpoint"], target, "a test", 3)
    shipped = torch.load(target, weights_only=True)
    original = torch.load(run["checkpoint"], weights_only=True)["state_dict"]
    assert shipped["meta"] == dict(source="a test", steps=3)
    assert shipped["state_dict"].keys() == original.keys()
    for key, value in original.items():
        torch.testing.assert_close(shipped["state_dict"][key].float(), value, atol=1e-3, rtol=1e-3)


def test_panel_data_of_held_out_samples(task, run, data_root):
    found, again = (predict(task, run["checkpoint"], (0, 3), data_root) for _ in range(2))
    for sample, same in zip(found, again, strict=True):
        tokens = math.prod(sample["mask"].shape)
        assert sample["target"].shape == (tokens, 108)
        assert sample["pred"].shape == (int(sample["mask"].sum()), 108)
        torch.testing.assert_close(sample["pred"], same["pred"])  # the same mask each time


def fake_results(run, shipped):
    accuracy = {SCRATCH: [40.0, 42.0, 44.0], LIVE: [50.0, 51.0, 52.0]}
    if shipped:
        accuracy[SHIPPED] = [60.0, 60.0, 63.0]
    pretraining = {k: v for k, v in run.items() if k != "lines"}
    return dict(pretraining=pretraining, accuracy=accuracy, seconds=1.0)


def test_table_gives_mean_and_spread(task, run):
    table = format_table({task.name: fake_results(run, shipped=False)})
    lines = table.splitlines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert "42.0 ± 2.0" in lines[2] and "51.0 ± 1.0" in lines[3]
    assert "3 steps" in lines[3]


def test_report_is_one_page_with_table_curves_and_panels(task, run, data_root, tmp_path):
    results = {task.name: fake_results(run, shipped=False)}
    page = demo_report.make_report(results, tmp_path / "report.html", 1.0, data_root).read_text()
    assert "42.0 ± 2.0" in page and "predicted HOG" in page and "<svg" in page
    assert "+9.0 points" in page
    assert not re.search(r"(src|href)=\"https?:", page)


def test_a_task_runs_every_start_with_every_seed(data_root, tmp_path, monkeypatch):
    """The plan of run_task; what it calls is tested above."""
    task = TASKS["digit"]
    calls = []
    monkeypatch.setattr(demo_train, "pretrain", lambda *args: dict(checkpoint="live.pth"))
    monkeypatch.setattr(
        demo_train, "finetune", lambda task, checkpoint, seed, *args: calls.append((checkpoint, seed)) or 1.0
    )
    results = run_task(task, tmp_path, lambda line: None, data_root)
    starts = [None, "live.pth"] + ([str(task.shipped_weights)] if task.shipped_weights.exists() else [])
    assert calls == [(start, seed) for start in starts for seed in (0, 1, 2)]
    assert json.loads((tmp_path / "results.json").read_text()) == results


@pytest.mark.parametrize("name", list(TASKS))
def test_long_pretraining_is_the_same_recipe_for_longer(name):
    short, long = (Config.fromfile(CONFIGS / c) for c in (TASKS[name].pretrain_config, TASKS[name].long_config))
    assert long.train_cfg.max_iters == long.max_iters > short.max_iters
    for cfg in (short, long):
        assert cfg.param_scheduler[1].begin + cfg.param_scheduler[1].T_max == cfg.max_iters
    for key in ("model", "optim_wrapper", "train_dataloader", "train_pipeline"):
        assert short[key] == long[key]


@pytest.mark.parametrize("name", list(TASKS))
def test_shipped_weights_are_small_and_say_what_made_them(name):
    path = TASKS[name].shipped_weights
    shipped = torch.load(path, weights_only=True)
    assert path.stat().st_size < 2.5e6
    config = Config.fromfile(CONFIGS / TASKS[name].long_config)
    assert shipped["meta"]["steps"] == config.max_iters and "demo-weights" in shipped["meta"]["source"]


def test_a_part_that_fails_ends_the_demo_with_its_last_lines(tmp_path):
    with pytest.raises(orchestrate.DemoError, match="invalid choice"):
        orchestrate._run_side_by_side([["--task", "none"]], tmp_path)


def test_help_has_an_example():
    tool = ROOT / "tools" / "demo.py"
    done = subprocess.run([sys.executable, "-W", "ignore", str(tool), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "example:" in done.stdout
