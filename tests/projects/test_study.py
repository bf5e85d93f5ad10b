"""Tests of the studies: every setting gives a config that trains, runs are real but short, and results are correct."""

import csv
import dataclasses
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from maskfeat_plugin.datasets.synthetic_signals import build_solids, build_sounds
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS
from projects.study import (
    STUDIES,
    choose,
    config_base,
    demo_base,
    do_run,
    do_runs,
    format_step_times,
    markdown,
    own_target,
    plan_runs,
    planned_runs,
    put_into_page,
    step_times,
    write_csv,
    write_page,
)
from projects.study import settings as study_settings
from projects.study.planned_runs import CLASSIFIER_LENGTH, resolve, write_run
from projects.study.result_page import BEGIN, END
from projects.study.run import KeptReading, choose_metric
from projects.study.settings import BASE, SCRATCH, Setting, Study

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {"train_dataloader.batch_size": 4}
DEMO = {"image": "demo/maskfeat_vit-tiny_moving-digits.py", "video": "demo/maskfeat_mvit-tiny_moving-digits.py"}
MODEL = {"image": "vit", "video": "mvit"}


@pytest.fixture(scope="module")
def bases(digits):
    root = digits / "data" / "moving_digits"
    return {kind: demo_base(kind, 2, 2, TINY, root) for kind in ("image", "video")}


def every_setting():
    return [
        pytest.param(kind, setting, id=f"{study.name}-{kind}-{setting.name}")
        for study in STUDIES.values()
        for kind, settings in study.settings.items()
        for setting in settings
        if setting.length
    ]


@pytest.mark.parametrize("kind, setting", every_setting())
def test_every_setting_builds_its_config(kind, setting, bases):
    base = bases[kind]
    cfg = resolve(setting, base)
    assert cfg.train_cfg.max_iters == max(1, round(2 * setting.length))
    same = dataclasses.replace(base, steps=cfg.train_cfg.max_iters)
    changed = cfg.to_dict() != resolve(BASE, same).to_dict()
    assert changed == bool(setting.changes)


TARGET_CONFIGS = {
    "pixels": "targets/maskfeat-pixel_{model}-tiny_moving-digits.py",
    "pixels + HOG": "targets/maskfeat-pixel-hog_{model}-tiny_moving-digits.py",
    "tokens": "targets/maskfeat-token_{model}-tiny_moving-digits.py",
    "features, unsupervised": "mixing/maskfeat_{model}-tiny_teacher_moving-digits.py",
    "features, its own past": "targets/maskfeat-self-teacher_{model}-tiny_moving-digits.py",
}
ON_IMAGES_ONLY = ("tokens", "features, its own past")


@pytest.mark.parametrize(
    "kind, name, file",
    [
        (kind, name, file)
        for kind in DEMO
        for name, file in TARGET_CONFIGS.items()
        if kind == "image" or name not in ON_IMAGES_ONLY
    ],
)
def test_a_target_is_that_of_its_config(kind, name, file, bases):
    setting = next(s for s in STUDIES["targets"].settings[kind] if s.name == name)
    found = resolve(setting, bases[kind]).model.to_dict()
    true = Config.fromfile(CONFIGS / file.format(model=MODEL[kind])).model.to_dict()
    assert found == true  # the study measures the neck's width; the file has a width written by hand


@pytest.mark.parametrize(
    "kind, name, file",
    [
        ("image", "local HOG, all steps", "maskfeat-local_vit-tiny_moving-digits.py"),
        ("video", "local HOG, all steps", "maskfeat-local_mvit-tiny_moving-digits.py"),
        ("image", "24 pixels, 1/4 of the steps", "maskfeat-24px_vit-tiny_moving-digits.py"),
    ],
)
def test_an_efficient_setting_has_the_model_and_the_pipeline_of_its_config(kind, name, file, bases):
    setting = next(s for s in STUDIES["efficient"].settings[kind] if s.name == name)
    base = dataclasses.replace(bases[kind], steps=8)
    found, true = resolve(setting, base), Config.fromfile(CONFIGS / "efficient" / file)
    assert found.model.to_dict() == true.model.to_dict()
    assert found.train_dataloader.dataset.pipeline == true.train_dataloader.dataset.pipeline
    same = resolve(Setting("", "", length=setting.length), base)  # the optimizer, the batches and the schedule
    for key in ("optim_wrapper", "param_scheduler", "train_cfg"):
        assert found[key] == same[key], key
    assert found.train_dataloader.batch_size == same.train_dataloader.batch_size


def test_what_studies_share_is_run_once(bases, tmp_path):
    plan = plan_runs(choose(["all"]), list(bases.values()), (0, 1), tmp_path)
    assert not plan.left_out
    folders = [run.folder for run in plan.runs]
    assert len(set(folders)) == len(folders)
    shared = [
        {id(run) for setting, runs in cells.items() if setting.name.endswith("(base)") for run in runs}
        for (study, kind), cells in plan.cells.items()
        if kind == "image" and study not in ("targets", "contrast")
    ]
    assert len(shared) == 7 and all(found == shared[0] and len(found) == 2 for found in shared)
    asked = {id(run) for cells in plan.cells.values() for runs in cells.values() for run in runs}
    classifiers = [run for run in plan.runs if id(run) not in asked]
    assert [run.setting for run in classifiers] == ["classifier"] and plan.runs[0] is classifiers[0]
    assert classifiers[0].finetune.train_cfg.max_iters == CLASSIFIER_LENGTH * 2
    needy = {run.setting for run in plan.runs if run.needs}
    assert needy == {"features, supervised", "pseudo-labels"}
    assert all(run.needs == classifiers[0].folder for run in plan.runs if run.needs)
    longer = plan_runs([STUDIES["masks"]], [dataclasses.replace(bases["image"], steps=3)], (0,), tmp_path)
    assert not {run.folder for run in longer.runs} & set(folders)


def test_seeds_differ_in_labels_and_randomness(bases, tmp_path):
    study = Study("targets", "", "", {"image": (SCRATCH, BASE), "video": (BASE,)})
    runs = plan_runs([study], list(bases.values()), (0, 1), tmp_path).runs
    assert len(runs) == 6
    for run in runs:
        assert f"_1000_seed{run.seed}.txt" in run.finetune.train_dataloader.dataset.ann_file
        assert run.pretrain is None or run.pretrain.randomness == dict(seed=run.seed)


def test_two_views_are_estimated_as_two_inputs(bases, tmp_path):
    length = planned_runs.LENGTHS["image"]
    plan = plan_runs([STUDIES["contrast"]], [bases["image"]], (0,), tmp_path)
    seconds = {run.setting: run.seconds for run in plan.runs}
    for name in ("HOG on two views", "contrast", "HOG + contrast", "HOG + weak contrast"):
        assert seconds[name] - seconds["HOG (base)"] == pytest.approx(2 * length.step_seconds[0])


@pytest.mark.parametrize("kind", DEMO)
def test_the_study_of_contrast_varies_the_losses_alone(kind, bases):
    _, _, *settings = STUDIES["contrast"].settings["image"]
    configs = alone, contrast, both, weak = [resolve(setting, bases[kind]) for setting in settings]
    file = CONFIGS / "contrast" / f"maskfeat-moco_{MODEL[kind]}-tiny_moving-digits.py"
    assert both.model.global_loss == Config.fromfile(file).model.global_loss
    of_hog = [cfg.model.head.loss.loss_weight for cfg in configs]
    of_contrast = [cfg.model.global_loss.loss_weight for cfg in configs]
    weight = of_contrast[2]
    assert of_hog == [1, 0, 1, 1] and of_contrast == pytest.approx([0, weight, weight, weight / 10]) and weight > 0
    for cfg in configs:
        cfg.model.head.loss.loss_weight = cfg.model.global_loss.loss_weight = None
    assert alone.to_dict() == contrast.to_dict() == both.to_dict() == weak.to_dict()


@pytest.mark.parametrize("kind", DEMO)
def test_linear_probing_trains_the_head_alone(kind, bases, tmp_path):
    study = dataclasses.replace(STUDIES["contrast"], settings={kind: (SCRATCH, BASE)})
    plan = plan_runs([study], [bases[kind]], (0,), tmp_path)
    cfg = plan.runs[0].finetune
    assert all(run.finetune.optim_wrapper == cfg.optim_wrapper for run in plan.runs)
    loader = dict(cfg.train_dataloader, batch_size=2)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        data = next(iter(Runner.build_dataloader(loader, seed=0)))
        model = MODELS.build(cfg.model)
        optim_wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.train_step(data, optim_wrapper)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not name.startswith("backbone.")} and moved


MINI = Study(
    "masks",
    "Kinds of masks",
    "A study for the tests.",
    {
        "image": (
            SCRATCH,
            Setting("blocks (base)", "the base config"),
            Setting("random", "each token on its own", (study_settings.masks("Random"),)),
        ),
        "video": (Setting("cubes (base)", "the base config"),),
    },
)


def small_plan(bases, work_dir, kinds=("image",)):
    return plan_runs([MINI], [bases[kind] for kind in kinds], (0,), work_dir)


@pytest.mark.long
def test_runs_are_real_failures_are_named_and_a_lost_result_is_run_again(bases, tmp_path, monkeypatch):
    """Plan runs that work, a run that raises, a run that needs it, and a run whose process dies as if out of memory."""
    (tmp_path / "dies_here.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def lacks_a_file(cfg):
        cfg.train_dataloader.dataset.ann_file = "annotations/none.txt"

    def dies(cfg):
        cfg.custom_imports.imports = ["maskfeat_plugin", "dies_here"]

    broken = (Setting("broken", "", (lacks_a_file,)), Setting("deadly", "", (dies,)))
    study = dataclasses.replace(MINI, settings={**MINI.settings, "image": (*broken, *MINI.settings["image"])})
    plan, lines = plan_runs([study], list(bases.values()), (0,), tmp_path), []
    runs = {run.setting: run for run in plan.runs}
    runs["random"].needs = runs["broken"].folder
    failures = do_runs(plan.runs, 1, lines.append, interval=1e6)
    assert [failure.run.setting for failure in failures] == ["broken", "deadly", "random"]
    assert "annotations/none.txt" in str(failures[0]) and str(runs["broken"].folder / "log.txt") in str(failures[0])
    assert "the process ended with status 9" in str(failures[1])
    assert "it needs" in str(failures[2]) and not (runs["random"].folder / "log.txt").exists()

    names = ("from scratch", "blocks (base)", "cubes (base)")
    first = {name: runs[name].result for name in names}
    assert all(0 <= r["score"] <= 100 and 0 <= r["knn"] <= 100 for r in first.values())
    assert [r["steps"] for r in first.values()] == [0, 2, 2]
    told = [line for line in lines if re.match(r"\d of 6 runs done", line)]
    assert [line[0] for line in told] == list("00123") and "2 failed, about " in told[1] and " left" in told[3]

    # only a run whose result is lost runs again. Its result is the same in another process, without earlier runs
    lost = runs["blocks (base)"]
    (lost.folder / "result.json").unlink()
    (lost.folder / "pretraining.json").unlink()
    kept = {name: (runs[name].folder / "result.json").stat().st_mtime_ns for name in names if name != lost.setting}
    lines.clear()
    assert do_runs([runs[name] for name in names], 1, lines.append, interval=1e6) == []
    assert lines[0] == "2 of 3 runs are finished already" and lines[1].startswith("3 of 3 runs done")
    assert all((runs[name].folder / "result.json").stat().st_mtime_ns == time_ for name, time_ in kept.items())
    for key in ("score", "knn", "loss", "baseline", "metric", "steps"):
        assert lost.result[key] == first[lost.setting][key], key


@pytest.mark.long
def test_a_run_that_was_killed_after_pretraining_starts_with_finetuning(bases, tmp_path):
    run = small_plan(bases, tmp_path).runs[1]
    write_run(run)
    lines = []
    result = do_run(run.folder, lines.append)
    assert any("pre-training" in line for line in lines)
    (run.folder / "result.json").unlink()
    lines.clear()
    again = do_run(run.folder, lines.append, KeptReading())
    assert lines and not any("pre-training" in line for line in lines)
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in result.items() if k != "seconds"}


def test_an_interruption_ends_the_processes(digits, tmp_path):
    """Interrupt a study in the middle of a run. The run's process must end, so that the study can continue."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", str(root / "tools" / "ablate.py"), "masks", "--kinds", "image"]
    command += ["--seeds", "0", "--steps", "100000", "--finetune-steps", "2", "--workers", "1"]
    command += ["--work-dir", str(tmp_path), "--data-root", str(digits / "data" / "moving_digits")]
    # if a shell runs the tests in the background, they ignore the signal, and the process would inherit this
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        for _ in range(3000):
            if list(tmp_path.glob("runs/*/pretraining/*")) or process.poll() is not None:
                break
            time.sleep(0.1)
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        children = listed.stdout.split()
        assert children
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 130 and "run the same command again to continue" in errors
    for _ in range(50):
        alive = [c for c in children if Path(f"/proc/{c}").exists()]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive


def write_results(plan, scores):
    """Write results as if the runs had been done. ``scores`` maps a setting's name to one score per seed."""
    for cells in plan.cells.values():
        for setting, runs in cells.items():
            for run, score in zip(runs, scores.get(setting.name, ()), strict=False):
                run.folder.mkdir(parents=True, exist_ok=True)
                pretrained = setting.length > 0
                result = dict(metric="accuracy/top1", score=score, knn=score / 2, seconds=60.0, steps=2 * pretrained)
                result |= dict(loss=0.25, baseline=0.5, step_seconds=0.125) if pretrained else {}
                keys = ("loss", "baseline", "step_seconds")
                (run.folder / "result.json").write_text(json.dumps(dict.fromkeys(keys) | result))


@pytest.fixture
def done(bases, tmp_path):
    plan = plan_runs([MINI], [bases["image"]], (0, 1, 2), tmp_path)
    write_results(plan, {SCRATCH.name: [10.0, 12.0, 14.0], "blocks (base)": [20.0, 21.0, 25.0], "random": [30.0, 31.0]})
    return plan


def test_csv_has_a_row_for_each_run_that_is_done(done, tmp_path):
    rows = list(csv.DictReader(write_csv(done, tmp_path / "new" / "study.csv").open()))
    assert [(r["setting"], r["seed"], float(r["score"])) for r in rows] == [
        ("from scratch", "0", 10.0),
        ("from scratch", "1", 12.0),
        ("from scratch", "2", 14.0),
        ("blocks (base)", "0", 20.0),
        ("blocks (base)", "1", 21.0),
        ("blocks (base)", "2", 25.0),
        ("random", "0", 30.0),
        ("random", "1", 31.0),
    ]
    assert {(r["study"], r["kind"], r["metric"]) for r in rows} == {("masks", "image", "accuracy/top1")}
    assert (rows[0]["step_ms"], rows[0]["loss"], rows[-1]["step_ms"], rows[-1]["loss"]) == ("", "", "125", "0.25")
    assert all((tmp_path / "runs" / r["run"] / "result.json").is_file() for r in rows)


def test_tables_give_mean_spread_and_difference(done, tmp_path):
    text = markdown(done, "How it was done.")
    cells = {row.split("|")[1].strip(): [c.strip() for c in row.split("|")] for row in text.splitlines() if "|" in row}
    assert cells["from scratch"][3:10] == ["12.0 ± 2.0", "-10.0 [-12.5, -7.5]", "6.0 ± 1.0", "", "", "", "3"]
    spread = statistics.stdev([20.0, 21.0, 25.0])
    assert cells["blocks (base)"][3:7] == [f"22.0 ± {spread:.1f}", "", f"11.0 ± {spread / 2:.1f}", "0.50"]
    assert cells["blocks (base)"][7:10] == ["125", "0.2", "3"]
    assert cells["random"][3:5] == ["30.5 ± 0.7", "+10.0 [+10.0, +10.0]"] and cells["random"][9] == "2"
    page = write_page(done, tmp_path / "study.html", "How it was done.", 60.0).read_text()
    assert "12.0 ± 2.0" in page and "[-12.5, -7.5]" in page and page.count("<svg") == 1 and "How it was done." in page
    assert "prefers-color-scheme: dark" in page and not re.search(r"(src|href)=\"https?:", page)


def test_tables_go_between_the_marks_of_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("new | table", "newer"):
        put_into_page(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\nnewer\n\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ConfigError, match="--docs .*page.md"):
        put_into_page(page, "new")
    assert page.read_text() == "no marks"


def test_accuracies_are_percentages():
    assert choose_metric({"single-label/f1": 3.0, "accuracy/top1": 50.0}) == ("accuracy/top1", 50.0)
    assert choose_metric({"acc/mean1": 0.5, "acc/top1": 0.25}) == ("acc/top1", 25.0)
    assert choose_metric({"mAP": 0.5, "AP50": 0.7}, "AP50") == ("AP50", 0.7)
    with pytest.raises(ValueError, match=r"none.*\['mAP'\]"):
        choose_metric({"mAP": 0.5}, "none")


@pytest.fixture
def own_configs(digits, tmp_path, monkeypatch):
    """Write configs that do not depend on the demo, as a user would: images of 64 x 64 with tokens of 16 x 16."""
    monkeypatch.chdir(digits)
    small = {"img_size": 64, "patch_size": 16}
    for name, file in (("pretrain", DEMO["image"]), ("finetune", "demo/vit-tiny_moving-digits-class.py")):
        cfg = Config.fromfile(CONFIGS / file)
        cfg.model.backbone.update(small)
        loaders = [cfg[key].dataset.pipeline for key in ("train_dataloader", "test_dataloader") if key in cfg]
        for pipeline in loaders:
            for transform in [t for step in pipeline for t in (step, *step.get("transforms", ()))]:
                if transform.type == "Resize":
                    transform.scale = (72, 72)
                elif "crop_size" in transform:
                    transform.crop_size = 64
                elif "token_grid" in transform:
                    transform.token_grid = (4, 4)
        if name == "pretrain":
            cfg.model.target_generator.cell_size = 8
            cfg.train_dataloader.batch_size = 4
        cfg.dump(tmp_path / f"{name}.py")
    return [str(tmp_path / f"{name}.py") for name in ("pretrain", "finetune")]


def test_own_configs_get_the_settings_that_apply(own_configs, tmp_path):
    base = config_base(*own_configs, steps=2, finetune_steps=2)
    target = own_target(f"mine={CONFIGS / DEMO['image']}")
    plan = plan_runs([STUDIES["targets"], STUDIES["hog"], STUDIES["teachers"]], [base], (0,), tmp_path, [target])
    left_out = {line.split(", ", 2)[2].split(": left out")[0] for line in plan.left_out}
    assert left_out == {
        "features, unsupervised",
        "features, supervised",
        "pseudo-labels",
        "first layer",
        "several layers",
    }
    widths = {
        setting.name: runs[0].pretrain.model.neck.get("out_channels")
        for cells in plan.cells.values()
        for setting, runs in cells.items()
        if setting.length
    }
    assert widths["pixels"] == 3 * 16 * 16 and widths["HOG (base)"] == 108 and widths["mine"] == 3 * 9 * 4 * 4
    assert widths["cells of half the side"] == 432 and widths["cells of twice the side"] == 27
    assert widths["tokens"] == 64 and widths["features, its own past"] == 96


@pytest.mark.parametrize(
    "build, pretrain, finetune",
    [
        (build_sounds, "maskfeat_vit-tiny_sounds", "vit-tiny_sounds-class"),
        (build_solids, "maskfeat_mvit-tiny_solids", "mvit-tiny_solids-class"),
    ],
)
def test_sounds_and_volumes_can_be_studied(build, pretrain, finetune, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build(tmp_path / "data" / pretrain.split("_")[-1], num_train=8, num_test=8, num_labelled=8)
    files = [str(CONFIGS / "signals" / f"{name}.py") for name in (pretrain, finetune)]
    base = config_base(*files, steps=2, finetune_steps=2, options={"train_dataloader.batch_size": 2})
    plan = plan_runs([STUDIES["targets"]], [base], (0,), tmp_path)
    necks = {run.setting: run.pretrain.model.neck for run in plan.runs if run.pretrain is not None}
    # a token has 2 x 2 cells with 9 bins, or 8 x 8 pixels, both of one channel and of the first slice
    assert necks["HOG (base)"].out_channels == 36 and necks["pixels"].out_channels == 64
    assert {name: neck.out_channels for name, neck in necks["pixels + HOG"].necks.items()} == dict(hog=36, pixel=64)
    run = next(run for run in plan.runs if run.setting == "pixels + HOG")
    write_run(run)
    result = do_run(run.folder, print)
    assert 0 <= result["score"] <= 100 and result["knn"] is not None and result["steps"] == 2


def test_continued_pretraining_starts_from_the_weights_with_the_rate(bases):
    settings = {s.name: s for s in STUDIES["continued"].settings["image"]}
    cfgs = {name: resolve(settings[name], bases["image"]) for name in settings if "continued" in name}
    rate = bases["image"].pretrain.optim_wrapper.optimizer.lr
    rates = {name: cfg.optim_wrapper.optimizer.lr / rate for name, cfg in cfgs.items()}
    assert rates == pytest.approx(
        {
            "not continued": 0,
            "continued, whole rate": 1,
            "continued, 1/3 of the rate": 1 / 3,
            "continued, 1/10 of the rate": 0.1,
        }
    )
    for cfg in cfgs.values():
        assert cfg.model.init_cfg.type == "maskfeat.Pretrained" and Path(cfg.model.init_cfg.checkpoint).is_file()


def test_what_cannot_be_studied_is_said_in_one_line(own_configs, tmp_path):
    pretrain, finetune = own_configs
    with pytest.raises(ConfigError, match="model.target_generator"):
        config_base(finetune, finetune)
    with pytest.raises(ConfigError, match="test_dataloader"):
        config_base(pretrain, pretrain)
    with pytest.raises(ConfigError, match="--target dino: give NAME=CONFIG"):
        own_target("dino")
    with pytest.raises(ConfigError, match="nowhere.py does not exist"):
        own_target("dino=nowhere.py")
    base = config_base(pretrain, finetune)
    with pytest.raises(ConfigError, match="FrameMaskGenerator"):
        resolve(Setting("frames", "", (study_settings.masks("Frame"),)), base)
    with pytest.raises(ConfigError, match="cell_size=24"):
        resolve(Setting("cells", "", (study_settings.hog(cell_scale=3.0),)), base)
    pixels = next(s for s in STUDIES["targets"].settings["image"] if s.name == "pixels")
    with pytest.raises(ConfigError, match="target_generator.type=.*the setting changes HOG only"):
        resolve(Setting("both", "", (*pixels.changes, study_settings.hog(nbins=6))), base)
    with pytest.raises(ConfigError, match="no setting applies"):
        plan_runs([Study("clips", "", "", {"video": (BASE,)})], [base], (0,), tmp_path)


@pytest.mark.long
def test_step_times_are_of_every_target():
    rows = list(step_times(1, torch.device("cpu"), batch_size=4))  # two samples of two views: batch norm
    files = [*(CONFIGS / "targets").glob("*.py"), *(CONFIGS / "mixing").glob("*teacher*.py")]
    files += (CONFIGS / "efficient").glob("*moving-digits.py")
    files += (CONFIGS / "contrast").glob("*moving-digits.py")
    assert {name for name, _, _ in rows} == {file.stem for file in files} and len(rows) > 12
    assert all(ours > 0 and hog > 0 for _, ours, hog in rows)
    assert format_step_times([("maskfeat-a", 0.3, 0.2)]).splitlines()[-1] == "| maskfeat-a | 300 | 200 | 1.50 |"
