"""The demo's parts on a tiny MovingDigits: every step runs for real, only shorter."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from maskfeat_plugin.apis.demo import PRETRAININGS, TASKS, finetune, format_table, orchestrate, pretrain, run_part
from maskfeat_plugin.apis.demo import report as demo_report
from maskfeat_plugin.apis.demo import train as demo_train
from maskfeat_plugin.apis.demo.pictures import READERS, find_boxes
from maskfeat_plugin.apis.demo.tasks import CONFIGS, LIVE, ROOT, SCRATCH
from maskfeat_plugin.apis.demo.train import draw_predictions, export_weights, finetuning_dir
from maskfeat_plugin.datasets.moving_digits import build_moving_digits

SHORT = {"max_iters": 3, "train_cfg.max_iters": 3, "default_hooks.checkpoint.interval": 3}
SHORT |= {"train_dataloader.batch_size": 8, "param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)]}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    config = dataclasses.replace(orchestrate.DATA, num_train=120, num_val=16, num_test=24, labelled=(40,))
    root = tmp_path_factory.mktemp("data") / "moving_digits"
    return build_moving_digits(root, config, progress=False)


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """Each pre-training, run when it is first asked for."""
    done = {}

    def run(pretraining):
        if pretraining.name not in done:
            lines = []
            work_dir = tmp_path_factory.mktemp(pretraining.name)
            outcome = pretrain(pretraining.config, work_dir, lines.append, data_root, SHORT)
            done[pretraining.name] = dict(outcome, lines=lines)
        return done[pretraining.name]

    return run


@pytest.fixture(scope="module", params=list(PRETRAININGS))
def pretraining(request):
    return PRETRAININGS[request.param]


@pytest.fixture(scope="module")
def run(pretraining, runs):
    return runs(pretraining)


@pytest.fixture(scope="module", params=list(TASKS))
def task(request):
    return dataclasses.replace(TASKS[request.param], labels=40)


def test_pretraining_logs_the_loss_beside_that_of_the_mean(run):
    assert len(run["loss"]) == len(run["baseline"]) == len(run["steps"]) == 3
    assert all(0 < v < 1 for v in run["loss"] + run["baseline"])
    assert re.search(r"step 3 of 3, loss 0\.\d+ \(predicting the mean: 0\.\d+\), about 0 s left", run["lines"][-1])
    json.dumps({k: v for k, v in run.items() if k != "lines"})


@pytest.mark.parametrize("pretrained", [False, True])
def test_finetuning_ends_in_the_frameworks_metric(task, runs, data_root, tmp_path, pretrained):
    checkpoint = runs(task.pretraining)["checkpoint"] if pretrained else None
    options = {**SHORT, "train_cfg.val_interval": 3}
    score = finetune(task, checkpoint, 0, tmp_path / "a", lambda line: None, data_root, options)
    again = finetune(task, checkpoint, 0, tmp_path / "b", lambda line: None, data_root, options)
    assert 0 <= score <= 100 and score == again  # the same seed gives the same numbers


def test_pretrained_weights_are_where_finetuning_starts(task, runs, data_root, tmp_path):
    """With a learning rate of 0 the fine-tuned backbone is the pre-trained one."""
    options = {**SHORT, "train_cfg.val_interval": 3, "optim_wrapper.optimizer.lr": 0.0}
    checkpoint = runs(task.pretraining)["checkpoint"]
    finetune(task, checkpoint, 0, tmp_path, lambda line: None, data_root, options)
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "iter_3.pth", weights_only=True)["state_dict"]
    # the final norm is pre-training's own, and positions are of another grid where there is no class token
    own = re.compile(r"norm\d|ln1\." + (r"|pos_embed" if task.name == "coco" else ""))
    shared = [k for k in after if k in before and k.startswith("backbone.") and not own.search(k)]
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


def test_pictures_of_held_out_samples(pretraining, run, data_root):
    found, again = (draw_predictions(pretraining, run["checkpoint"], (0, 3), data_root) for _ in range(2))
    for pictures, same in zip(found, again, strict=True):
        assert list(pictures) == ["masked input", "prediction", "target", "original"]
        for title, frames in pictures.items():
            assert len(frames) == (4 if pretraining.name == "video" else 1)
            np.testing.assert_array_equal(frames, same[title])  # the same mask each time


def fake_results(task, run):
    """Results of one task and its pre-training, without runs from the shipped weights."""
    scores = {task.name: {SCRATCH: [40.0, 42.0, 44.0], LIVE: [50.0, 51.0, 52.0]}}
    pretraining = {k: v for k, v in run.items() if k != "lines"}
    return {task.pretraining.name: dict(pretraining=pretraining, scores=scores, seconds=1.0)}


def test_table_gives_mean_and_spread(task, runs):
    table = format_table(fake_results(task, runs(task.pretraining)))
    lines = table.splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert "42.0 ± 2.0" in lines[2] and "51.0 ± 1.0" in lines[2]
    assert task.title in lines[2] and task.framework in lines[2] and task.measure in lines[2]


def test_report_is_one_page_with_table_curves_and_panels(task, runs, data_root, tmp_path):
    results = fake_results(task, runs(task.pretraining))
    if task.name in READERS:
        options = {**SHORT, "train_cfg.val_interval": 3}
        finetune(task, None, 0, finetuning_dir(tmp_path, task, LIVE, 0), lambda line: None, data_root, options)
    page = demo_report.make_report(results, tmp_path, 1.0, data_root).read_text()
    assert "42.0 ± 2.0" in page and "predicted HOG" in page and "<svg" in page
    assert "+9.0 points" in page and f"3 steps ({task.pretraining.name})" in page
    assert ("fine-tuned pre-trained live" in page) == (task.name in READERS)
    assert not re.search(r"(src|href)=\"https?:", page)


@pytest.mark.parametrize("name", list(READERS))
def test_true_boxes_are_drawn_where_the_digit_is(name, data_root, tmp_path):
    """The digit differs most from the background within its box: there the frame varies, outside it is a gradient."""
    task = dataclasses.replace(TASKS[name], labels=40)
    options = {**SHORT, "train_cfg.val_interval": 3}
    finetune(task, None, 0, tmp_path, lambda line: None, data_root, options)
    for frame, found, true in find_boxes(task, tmp_path / "iter_3.pth", (0, 5, 9), data_root):
        assert len(true.boxes) == len(true.labels) == 1 and len(found.boxes) == len(found.labels)
        frame = frame.astype(float)
        steps = np.abs(np.diff(frame, axis=1)).sum(-1)[:-1] + np.abs(np.diff(frame, axis=0)).sum(-1)[:, :-1]
        inside = np.zeros(steps.shape, bool)
        x1, y1, x2, y2 = true.boxes[0].round().astype(int)
        inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
        assert inside.any() and not inside.all()
        assert steps[inside].mean() > 2 * steps[~inside].mean()


def test_a_part_runs_every_start_of_every_task_with_every_seed(pretraining, data_root, tmp_path, monkeypatch):
    """The plan of run_part; what it calls is tested above."""
    tasks = [task for task in TASKS.values() if task.pretraining == pretraining]
    calls = []
    monkeypatch.setattr(demo_train, "pretrain", lambda *args: dict(checkpoint="live.pth"))
    monkeypatch.setattr(
        demo_train, "finetune", lambda task, checkpoint, seed, *args: calls.append((task, checkpoint, seed)) or 1.0
    )
    results = run_part(pretraining, tasks, tmp_path, lambda line: None, data_root)
    starts = [None, "live.pth", str(pretraining.shipped_weights)]
    assert calls == [(task, start, seed) for task in tasks for start in starts for seed in (0, 1, 2)]
    assert json.loads((tmp_path / pretraining.name / "results.json").read_text()) == results


def test_chosen_tasks_run_with_the_pretraining_they_need(tmp_path, data_root, monkeypatch):
    """``make demo TASKS=motion`` starts one process; all tasks start one for images and one for clips."""
    started = []

    def stop(arguments, work_dir):
        started.append(arguments)
        raise orchestrate.DemoError("enough")

    monkeypatch.setattr(orchestrate, "_run_side_by_side", stop)
    monkeypatch.setattr(orchestrate, "build_data", lambda root: None)
    for tasks in ([TASKS["motion"]], None):
        with pytest.raises(orchestrate.DemoError):
            orchestrate.run_demo(tmp_path, data_root, tasks)
    assert started[0] == [["--part", "video", "--tasks", "motion"]]
    assert [arguments[1] for arguments in started[1]] == ["image", "video"]
    assert sorted(name for arguments in started[1] for name in arguments[3:]) == sorted(TASKS)


def test_long_pretraining_is_the_same_recipe_for_longer(pretraining):
    short, long = (Config.fromfile(CONFIGS / c) for c in (pretraining.config, pretraining.long_config))
    assert long.train_cfg.max_iters == long.max_iters > short.max_iters
    for cfg in (short, long):
        assert cfg.param_scheduler[1].begin + cfg.param_scheduler[1].T_max == cfg.max_iters
    for key in ("model", "optim_wrapper", "train_dataloader", "train_pipeline"):
        assert short[key] == long[key]


def test_shipped_weights_are_small_and_say_what_made_them(pretraining):
    path = pretraining.shipped_weights
    shipped = torch.load(path, weights_only=True)
    assert path.stat().st_size < 2.5e6
    config = Config.fromfile(CONFIGS / pretraining.long_config)
    assert shipped["meta"]["steps"] == config.max_iters and "demo-weights" in shipped["meta"]["source"]


def test_a_part_that_fails_ends_the_demo_with_its_last_lines(tmp_path):
    with pytest.raises(orchestrate.DemoError, match="invalid choice"):
        orchestrate._run_side_by_side([["--part", "none"]], tmp_path)


def test_help_has_an_example():
    tool = ROOT / "tools" / "demo.py"
    done = subprocess.run([sys.executable, "-W", "ignore", str(tool), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "example:" in done.stdout
