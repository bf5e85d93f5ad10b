"""Tests of the pages about the demo, trainings and studies in Chromium: on a phone and a desktop, light and dark."""

import json

import pytest
from PIL import Image

from maskfeat_plugin.training_report import write_training_report
from maskfeat_plugin.training_report.samples import make_pictures
from maskfeat_plugin.visualization import Section, write_report
from projects.demo import FULL, PRETRAININGS, TASKS, pretrain
from projects.demo import report_page as demo_report
from projects.demo.tasks import LIVE, SCRATCH
from projects.study import STUDIES, demo_base, plan_runs, write_page

SHORT = {
    "max_iters": 3,
    "train_cfg.max_iters": 3,
    "default_hooks.checkpoint.interval": 3,
    "train_dataloader.batch_size": 8,
    "param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)],
}
SCREENS = [(width, dark) for width in (360, 1280) for dark in (False, True)]


@pytest.fixture(scope="module")
def demo_page(digits, tmp_path_factory):
    """Page of the demo with real short pre-trainings and made-up scores."""
    folder, root = tmp_path_factory.mktemp("demo"), digits / "data" / "moving_digits"
    results = {}
    for name, task in (("image", "digit"), ("video", "motion")):
        done = pretrain(PRETRAININGS[name].config, folder / name, lambda line: None, root, SHORT)
        scores = {task: {SCRATCH: [40.0, 42.0, 44.0], LIVE: [50.0, 51.0, 52.0]}}
        results[name] = dict(pretraining=done, scores=scores, seconds=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_report, "SHOWN", {"image": 2, "video": 1})
        tasks = [TASKS["digit"], TASKS["motion"]]
        return demo_report.make_report(results, FULL, tasks, folder, 60.0, root)


@pytest.fixture(scope="module")
def study_page(digits, tmp_path_factory):
    """Page of a study with made-up results."""
    folder = tmp_path_factory.mktemp("study")
    bases = [demo_base(kind, 2, 2, None, digits / "data" / "moving_digits") for kind in ("image", "video")]
    plan = plan_runs([STUDIES["targets"], STUDIES["masks"]], bases, (0, 1), folder)
    for number, run in enumerate(plan.runs):
        run.folder.mkdir(parents=True, exist_ok=True)
        result = dict(metric="accuracy/top1", score=20.0 + number % 7, knn=10.0, seconds=60.0, steps=2)
        (run.folder / "result.json").write_text(json.dumps(result | dict(loss=0.25, baseline=0.5, step_seconds=0.1)))
    return write_page(plan, folder / "study.html", "How the runs were made.", 60.0)


@pytest.fixture(scope="module")
def training_page(interrupted_training, tmp_path_factory):
    return write_training_report(interrupted_training, tmp_path_factory.mktemp("training") / "report.html")


@pytest.fixture(scope="module")
def finetuning_page(finetuning, tmp_path_factory):
    return write_training_report(finetuning, tmp_path_factory.mktemp("finetuning") / "report.html")


@pytest.mark.parametrize("name", ["demo", "study", "training", "finetuning"])
def test_a_page_is_readable_on_every_screen(name, open_page, request):
    page = request.getfixturevalue(f"{name}_page")
    backgrounds = {}
    for width, dark in SCREENS:
        facts = open_page(page, width, dark)
        facts.check()
        backgrounds.setdefault(dark, facts.background)
        assert facts.figures and all(figure["width"] >= 50 for figure in facts.figures)
        assert min(text["size"] for text in facts.texts) >= 9
    assert backgrounds[False] == "rgb(255, 255, 255)" and backgrounds[True] != backgrounds[False]


def test_the_demo_begins_with_its_results(demo_page, open_page):
    facts = open_page(demo_page)
    assert [text for level, text in facts.headings if level < 3] == [
        "MaskFeat: predicting the edges of masked parts",
        "Results",
        "Predictions",
        "More",
    ]
    assert facts.height < 5000  # on a phone, the rest folded
    pictures = [figure["name"] for figure in facts.figures if figure["kind"] == "img"]
    # three samples, each with the shipped weights and the weights of the run, in four pictures
    assert len(pictures) == 4 * 2 * 3
    for number, part in enumerate(("masked input", "predicted HOG", "true HOG", "original")):
        assert all(part in name for name in pictures[number::4])
    assert sum(figure["kind"] == "svg" for figure in facts.figures) == 2


def test_the_training_has_its_charts_and_samples(training_page, finetuning_page, open_page):
    facts = open_page(training_page)
    assert [figure["kind"] for figure in facts.figures].count("img") == 2 * 3  # steps 0, 10 and 20
    charts = [figure["name"].partition(".")[0] for figure in facts.figures if figure["kind"] == "svg"]
    expected = [
        "Loss",
        "Norm of the gradients",
        "Learning rate",
        "Mask ratio",
        "Throughput",
        "Time of a step",
        "Memory",
    ]
    assert charts == expected
    charts = [figure["name"].partition(".")[0] for figure in open_page(finetuning_page).figures]
    assert charts[0] == "Loss" and "accuracy/top1" in charts


def test_the_study_has_a_chart_for_each_table(study_page, open_page):
    facts = open_page(study_page)
    charts = {figure["name"].partition(".")[0] for figure in facts.figures}
    titles = {f"{STUDIES[name].title}: {kind}" for name in ("targets", "masks") for kind in ("images", "clips")}
    assert charts == titles <= {text for level, text in facts.headings if level == 3}


def test_a_picture_of_a_clip_has_the_width_of_the_page(open_page, tmp_path):
    for step in (0, 10, 20):  # the size of a picture with four time steps in four rows
        Image.new("RGB", (930, 1034), "grey").save(tmp_path / f"prediction_0_{step}.png")
    pictures, _ = make_pictures(sorted(tmp_path.glob("*.png")))
    page = write_report(tmp_path / "page.html", title="Clips", sections=[Section("Clips", pictures)])
    facts = open_page(page, 1280)
    facts.check()
    assert [figure["width"] > 1000 for figure in facts.figures] == [True] * 3


def test_videos_play(digits, open_page, tmp_path):
    files = sorted((digits / "data" / "moving_digits" / "videos" / "test").glob("*.mp4"))[:2]
    pictures, left_out = make_pictures(files)
    assert left_out == 0
    page = write_report(tmp_path / "page.html", title="Videos", sections=[Section("Clips", pictures)])
    facts = open_page(page)
    facts.check()
    assert {figure["kind"] for figure in facts.figures} == {"video"}
