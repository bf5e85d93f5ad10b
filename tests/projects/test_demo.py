"""Tests of the demo's parts on a tiny MovingDigits: every step really runs, but is short."""

import dataclasses
import json
import os
import re
import subprocess

import numpy as np
import pytest
import torch
from long_variants import long_except
from mmengine.config import Config
from warm_python import python

from maskfeat_plugin.apis.pictures import Choice
from maskfeat_plugin.datasets.moving_digits import build_moving_digits
from maskfeat_plugin.errors import ConfigError
from projects.demo import (
    FULL,
    PRETRAININGS,
    QUICK,
    TASKS,
    finetune,
    format_table,
    orchestrate,
    pretrain,
    run_part,
)
from projects.demo import report_page as demo_report
from projects.demo import train as demo_train
from projects.demo.chosen_samples import choose_different, read_digits
from projects.demo.live_page import Page
from projects.demo.pictures import READERS, draw_findings, find_boxes
from projects.demo.tasks import CONFIGS, LIVE, ROOT, SCRATCH, SHIPPED
from projects.demo.train import (
    FirstLookHook,
    draw_predictions,
    export_weights,
    finetuning_dir,
    results_file,
    write_json,
)

SHORT = {"max_iters": 3, "train_cfg.max_iters": 3, "default_hooks.checkpoint.interval": 3}
SHORT |= {"train_dataloader.batch_size": 8, "param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)]}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    config = dataclasses.replace(orchestrate.DATA, num_train=120, num_val=16, num_test=24, labelled=(40,))
    root = tmp_path_factory.mktemp("data") / "moving_digits"
    return build_moving_digits(root, config, progress=False)


@pytest.fixture(scope="module")
def runs(data_root, tmp_path_factory):
    """Function that returns the result of a pre-training and runs it at the first call."""
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


def test_a_first_look_is_the_outcome_so_far_and_changes_nothing(pretraining, run, data_root, tmp_path):
    looks = []
    outcome = pretrain(pretraining.config, tmp_path, print, data_root, SHORT, hooks=[FirstLookHook(2, looks.append)])
    (look,) = looks
    assert look.keys() == outcome.keys()
    assert (look["steps"], outcome["steps"], look["max_iters"]) == ([1, 2], [1, 2, 3], 3)
    assert look["loss"] == outcome["loss"][:2] and look["baseline"] == outcome["baseline"][:2]
    first, last, alone = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (look["checkpoint"], outcome["checkpoint"], run["checkpoint"])
    )
    assert all(torch.equal(last[key], alone[key]) for key in alone)
    assert any(not torch.equal(first[key], last[key]) for key in last)
    assert draw_predictions(pretraining, look["checkpoint"], (0,), data_root)


def test_progress_tells_the_time_of_what_follows(pretraining, data_root, tmp_path):
    """Set the later trainings to 60 times this one's duration, so that its seconds become minutes."""
    lines = []
    options = SHORT | {"max_iters": 6, "train_cfg.max_iters": 6}
    outcome = pretrain(pretraining.config, tmp_path, lines.append, data_root, options, length=0.5, later=60.0)
    minutes = re.search(r"step 3 of 3, .* about 0 s left, (\d+\.\d) min including the later trainings", lines[-1])[1]
    assert outcome["step_seconds"] - 0.1 <= float(minutes) <= outcome["seconds"] + 0.1


@pytest.mark.parametrize("pretrained", long_except([False, True], 1))
def test_finetuning_ends_in_the_frameworks_metric(task, runs, data_root, tmp_path, pretrained):
    checkpoint = runs(task.pretraining)["checkpoint"] if pretrained else None
    options = {**SHORT, "train_cfg.val_interval": 3}
    score = finetune(task, checkpoint, 0, tmp_path / "a", lambda line: None, data_root, options)
    again = finetune(task, checkpoint, 0, tmp_path / "b", lambda line: None, data_root, options)
    assert 0 <= score <= 100 and score == again  # the same seed gives the same numbers
    assert json.loads(json.dumps(score)) == score  # a float of NumPy would end the demo at its last file


def test_pretrained_weights_are_where_finetuning_starts(task, runs, data_root, tmp_path):
    """Fine-tune with a learning rate of 0, so that the backbone keeps its pre-trained weights."""
    options = {**SHORT, "train_cfg.val_interval": 3, "optim_wrapper.optimizer.lr": 0.0}
    checkpoint = runs(task.pretraining)["checkpoint"]
    finetune(task, checkpoint, 0, tmp_path, lambda line: None, data_root, options)
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "iter_3.pth", weights_only=True)["state_dict"]
    # the final norm belongs to pre-training only; positions have another grid if there is no class token
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


def fake_results(task, run, plan=FULL):
    """Make up the results of one task and its pre-training, without runs from the shipped weights."""
    scores = {SCRATCH: [40.0, 42.0, 44.0], LIVE: [50.0, 51.0, 52.0]}
    shown = {start: values[: len(plan.seeds)] for start, values in scores.items() if start in plan.starts}
    scores = {task.name: shown}
    pretraining = {k: v for k, v in run.items() if k != "lines"}
    return {task.pretraining.name: dict(pretraining=pretraining, scores=scores, seconds=1.0)}


def test_table_gives_mean_and_spread(task, runs):
    table = format_table(fake_results(task, runs(task.pretraining)))
    lines = table.splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert "42.0 ± 2.0" in lines[2] and "51.0 ± 1.0" in lines[2]
    assert task.title in lines[2] and task.framework in lines[2] and task.measure in lines[2]


def test_one_seed_is_a_plain_number_and_claims_little(task, runs):
    results = fake_results(task, runs(task.pretraining), QUICK)
    row = format_table(results).splitlines()[2]
    assert "| 50.0 " in row and "40.0" not in row and "±" not in row
    assert "one seed" in demo_report.describe_scores(QUICK) and "3 seeds" in demo_report.describe_scores(FULL)
    [line] = demo_report.verdict(results, QUICK)  # there is nothing to compare with
    assert "may be chance" in line
    assert len(demo_report.verdict(fake_results(task, runs(task.pretraining)), FULL)) == 1


@pytest.mark.parametrize("plan", long_except([QUICK, FULL], 1))
def test_report_is_one_page_with_table_curves_and_panels(plan, task, runs, data_root, tmp_path):
    results = fake_results(task, runs(task.pretraining), plan)
    if task.name in READERS:
        options = {**SHORT, "train_cfg.val_interval": 3}
        finetune(task, None, 0, finetuning_dir(tmp_path, task, LIVE, 0), lambda line: None, data_root, options)
    page = demo_report.make_report(results, plan, [task], tmp_path, 1.0, data_root).read_text()
    assert "predicted HOG" in page and "<svg" in page and "Still running" not in page and "Reload" not in page
    assert f"3 steps ({task.pretraining.name})" in page
    several = "42.0 ± 2.0" in page, "+9.0 points" in page, "Every run" in page, "shipped weights)" in page
    assert several == (plan == FULL,) * 4 and ("may be chance" in page) == (plan == QUICK)
    assert ("fine-tuned pre-trained live" in page) == (task.name in READERS)
    assert not re.search(r"(src|href)=\"https?:", page)
    headings = ["Results", "Predictions", *(["Findings of the detectors"] if task.name in READERS else []), "More"]
    assert re.findall(r"<h2>(.*?)</h2>", page) == headings
    shown = page[: page.index("<details>")]
    assert len(re.findall("<table>", shown)) == 1 and shown.index("<table>") < shown.index("<img")
    pictures = 4 + 2 * (task.name in READERS)  # a prediction, and a picture of found boxes beside true boxes
    assert shown.count("<img") == pictures < page.count("<img") and "<svg" not in shown


def test_shown_samples_are_of_different_digits(data_root):
    digits = read_digits(data_root)
    assert {name: len(of) for name, of in digits.items()} == {"image": 72, "video": 24}
    assert set(digits["video"]) - {""} <= set(digits["image"]) <= set("0123456789")
    chosen = choose_different(digits["image"], 4)
    assert chosen[0] == 0 and len({digits["image"][index] for index in chosen}) == len(chosen) == 4
    clips = choose_different(digits["video"], 3, without={digits["image"][0]})
    assert digits["image"][0] not in [digits["video"][index] for index in clips]
    assert choose_different("aab", 3) == [0, 2]


def test_the_page_begins_with_the_first_predictions_and_grows(runs, data_root, tmp_path):
    """Do the work of ``make demo`` while its processes run: they write their results one after the other."""
    lines = []
    tasks = [TASKS["digit"], TASKS["motion"]]
    page = Page(QUICK, tasks, tmp_path, data_root, lines.append)
    image, video = (fake_results(task, runs(task.pretraining), QUICK)[task.pretraining.name] for task in tasks)
    page.update()
    assert not page.path.exists()  # nothing to show yet

    look = image["pretraining"] | {"max_iters": 9}
    write_json(results_file(tmp_path, PRETRAININGS["image"]), image | dict(pretraining=look, scores={}))
    page.update()
    text = page.path.read_text()
    assert lines == [f"First predictions: {page.path}. Reload the page for more while the demo runs."]
    assert "Still running" in text and "Reload the page" in text and "3 of 9 steps done" in text
    assert (
        "after 3 steps" in text
        and "predicted HOG" in text
        and "Picture 0 of" in text
        and not re.search(r"Clip \d+ of", text)
    )
    assert text.count("not started") == 2 and "in progress" in text and "Results" not in text

    write_json(results_file(tmp_path, PRETRAININGS["image"]), image)
    os.utime(results_file(tmp_path, PRETRAININGS["image"]), ns=(0, 1))  # a different time even if the clock is coarse
    page.update()
    text = page.path.read_text()
    assert "Still running" in text and text.count("not started") == 1 and "Result" in text and "50.0" in text

    before = page.path.stat()
    page.update()
    assert page.path.stat().st_ino == before.st_ino  # no new results, no new page
    write_json(results_file(tmp_path, PRETRAININGS["video"]), video)
    assert page.write().keys() == {"image", "video"}
    text = page.path.read_text()
    assert (
        "Still running" not in text
        and "Reload" not in text
        and re.search(r"Clip \d+ of", text)
        and TASKS["motion"].title in text
    )
    assert len(lines) == 1

    page.clear()
    page.update()
    assert not page.path.exists()  # an earlier demo's page and results are gone


def test_pictures_of_a_task_that_is_not_trained(tmp_path):
    with pytest.raises(ConfigError, match=r"ava.*: there is no checkpoint\. Fine-tune the task first\."):
        draw_findings(TASKS["ava"], tmp_path, SCRATCH, 1)


@pytest.mark.parametrize("name", list(READERS))
def test_true_boxes_are_drawn_where_the_digit_is(name, data_root, tmp_path):
    """Check that the frame varies most inside the box of the digit. Outside, the background is a gradient."""
    task = dataclasses.replace(TASKS[name], labels=40)
    options = {**SHORT, "train_cfg.val_interval": 3}
    finetune(task, None, 0, tmp_path, lambda line: None, data_root, options)
    choice = Choice("test", (0, 5, 9))
    for title, frame, found, true in find_boxes(task, tmp_path / "iter_3.pth", choice, data_root):
        assert title in ("test 0", "test 5", "test 9")
        assert len(true.boxes) == len(true.labels) == 1 and len(found.boxes) == len(found.labels)
        frame = frame.astype(float)
        steps = np.abs(np.diff(frame, axis=1)).sum(-1)[:-1] + np.abs(np.diff(frame, axis=0)).sum(-1)[:, :-1]
        inside = np.zeros(steps.shape, bool)
        x1, y1, x2, y2 = true.boxes[0].round().astype(int)
        inside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = True
        assert inside.any() and not inside.all()
        assert steps[inside].mean() > 2 * steps[~inside].mean()


@pytest.mark.parametrize("plan", [QUICK, FULL])
def test_a_part_runs_every_start_of_every_task_with_every_seed(plan, pretraining, data_root, tmp_path, monkeypatch):
    """Replace the functions that run_part calls, which are tested above."""
    tasks = [task for task in TASKS.values() if task.pretraining == pretraining]
    lengths, calls = [], []

    def pretrain(*args, length, later, hooks):
        lengths.append((length, later))
        hooks[0].publish(dict(checkpoint="first look"))
        read = json.loads(results_file(tmp_path, pretraining).read_text())
        assert read["pretraining"] == dict(checkpoint="first look") and read["scores"] == {}
        return dict(checkpoint="live.pth")

    def finetune(task, checkpoint, seed, *args, later):
        done = json.loads(results_file(tmp_path, pretraining).read_text())
        calls.append((task, checkpoint, seed, later, list(done["scores"])))
        return 1.0

    monkeypatch.setattr(demo_train, "pretrain", pretrain)
    monkeypatch.setattr(demo_train, "finetune", finetune)
    results = run_part(pretraining, tasks, plan, tmp_path, print, data_root)
    assert json.loads(results_file(tmp_path, pretraining).read_text()) == results
    checkpoints = {SCRATCH: None, LIVE: "live.pth", SHIPPED: str(pretraining.shipped_weights)}
    starts = [checkpoints[start] for start in plan.starts]
    assert [call[:3] for call in calls] == [(t, start, seed) for t in tasks for start in starts for seed in plan.seeds]
    seconds = plan.seconds(pretraining, tasks)
    assert lengths == [(plan.length, sum(seconds[1:]) / seconds[0])]
    later = [sum(seconds[i + 1 :]) / seconds[i] for i in range(1, len(seconds))]
    assert [call[3] for call in calls] == pytest.approx(later)
    # a task is published when all its runs are finished
    assert calls[0][4] == [] and calls[-1][4] == [task.name for task in tasks[:-1]]


def test_the_plans_are_those_that_the_readme_names():
    assert (QUICK.starts, QUICK.seeds) == ((LIVE,), (0,))
    assert (FULL.starts, FULL.seeds, FULL.length) == ((SCRATCH, LIVE, SHIPPED), (0, 1, 2), 1.0)


def test_chosen_tasks_run_with_the_pretraining_they_need(tmp_path, data_root, monkeypatch):
    """Check that ``make demo TASKS=motion`` starts one process, and that without tasks two start: images and clips."""
    started = []

    def stop(arguments, work_dir, meanwhile):
        started.append(arguments)
        raise orchestrate.DemoError("enough")

    monkeypatch.setattr(orchestrate, "_run_side_by_side", stop)
    monkeypatch.setattr(orchestrate, "build_data", lambda root: None)
    for tasks, plan in (([TASKS["motion"]], QUICK), ([TASKS["motion"]], FULL), (None, QUICK)):
        with pytest.raises(orchestrate.DemoError):
            orchestrate.run_demo(tmp_path, data_root, tasks, plan)
    assert started[:2] == [[[*full, "--part", "video", "--tasks", "motion"]] for full in ([], ["--full"])]
    assert [arguments[1] for arguments in started[2]] == ["image", "video"]
    assert sorted(name for arguments in started[2] for name in arguments[3:]) == ["ava", "coco", "digit", "motion"]


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
    done = subprocess.run([python(), "-W", "ignore", str(tool), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "example:" in done.stdout
