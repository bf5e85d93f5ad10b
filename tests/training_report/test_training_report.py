"""Tests of the training report: it agrees with the logs of real trainings that were finished or interrupted."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_modules import load_tool

import maskfeat_plugin
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.training_report import read_runs, write_training_report
from maskfeat_plugin.training_report.config_text import read_settings
from maskfeat_plugin.training_report.history import join_runs
from maskfeat_plugin.training_report.samples import make_pictures, read_media

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(interrupted_training, tmp_path):
    """Copy the interrupted training, so that a test can damage it."""
    return Path(shutil.copytree(interrupted_training, tmp_path / "trainings" / "parts"))


@pytest.fixture(scope="module")
def tool():
    return load_tool("report").main


def scalars(run):
    lines = (run.folder / "vis_data" / "scalars.json").read_text().splitlines()
    return [json.loads(line) for line in lines]


def text_of(page):
    """Return the text of a page, with a space instead of each tag."""
    html = re.sub(r"<(style|svg).*?</\1>", " ", page.read_text(), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_runs_are_joined_by_iteration_and_the_later_one_counts(interrupted_training):
    runs = read_runs(interrupted_training)
    assert [run.iterations for run in runs] == [(1, 9), (6, 14), (15, 20)]
    history = join_runs(runs)
    assert (history.starts, history.done, history.length, history.is_finished) == ([5, 14], 20, 20, True)
    first, second, third = map(scalars, runs)
    for name in ("loss", "baseline", "grad_norm", "lr", "mask_ratio", "time", "samples_per_second"):
        iterations, values = history.train[name]
        np.testing.assert_array_equal(iterations, range(1, 21))
        np.testing.assert_array_equal(values, [line[name] for line in (*first[:5], *second, *third)])
    assert first[5]["time"] != second[0]["time"]  # so the two runs can be distinguished
    assert not history.metrics


def test_the_page_of_an_interrupted_training(interrupted_training, tmp_path):
    cores = len(os.sched_getaffinity(0))
    before = {path: path.stat().st_mtime_ns for path in interrupted_training.rglob("*")}
    page = write_training_report(interrupted_training, tmp_path / "new" / "page.html")
    assert page == tmp_path / "new" / "page.html" and page.stat().st_size < 2_000_000
    assert before == {path: path.stat().st_mtime_ns for path in interrupted_training.rglob("*")}  # no file has changed
    html, text = page.read_text(), text_of(page)
    last = scalars(read_runs(interrupted_training)[-1])[-1]
    assert f" loss {last['loss']:.4g} " in text and f" baseline {last['baseline']:.4g} " in text
    for expected in (
        *("Training of maskfeat_vit-tiny_moving-digits", "Pre-training:", "20 of 20", "Norm of the gradients"),
        *("iteration 5 6 to 14", "told to end (SIGTERM), checkpoint saved", "iteration 14 15 to 20", "finished"),
        *("PyTorch", "MMEngine 0.", f"maskfeat_plugin {maskfeat_plugin.__version__}", "mmaction2 1.", f"{cores} cores"),
        *("grad_norm", "Mask ratio", "Throughput", "host_memory", "Dotted lines"),
        *("type=&#39;maskfeat.MaskFeat&#39;", "max_iters=20", "images per second"),
    ):
        assert expected in text, expected
    assert "the beginning 1 to 9" in text and text.count("interrupted") == 1
    assert len(re.findall(r'alt="prediction_[01] \(png\): step (0|10|20)"', html)) == 6
    assert "has written no pictures" not in text


def test_a_torn_last_line_is_left_out(copy):
    run = read_runs(copy)[-1]
    path = run.folder / "vis_data" / "scalars.json"
    whole = path.read_text()
    for cut in (whole[:-30], whole + "{", whole + '{"loss": NaN}\n', whole + "\x00\x00\n", whole + "[1]\n"):
        path.write_text(cut)
        (run,) = [item for item in read_runs(copy) if item.folder == run.folder]
        assert run.unreadable == 1
        assert run.iterations == ((15, 19) if cut == whole[:-30] else (15, 20))
    assert "1 line of the logged numbers is incomplete" in text_of(write_training_report(copy))


def test_numbers_that_are_not_finite_are_shown(copy):
    path = read_runs(copy)[-1].folder / "vis_data" / "scalars.json"
    lines = path.read_text().splitlines()
    lines[-1] = re.sub(r'"(loss|grad_norm)": [^,]+', r'"\1": NaN', lines[-1])
    path.write_text("\n".join(lines) + "\n")
    text = text_of(write_training_report(copy))
    assert " loss nan " in text and "loss / baseline not finite" in text


def test_a_training_that_runs_or_has_just_begun(copy):
    runs = read_runs(copy)
    for run in runs[1:]:
        shutil.rmtree(run.folder)
    text = text_of(write_training_report(copy))
    assert "45% done" in text.replace("state 45%", "45%") and "9 of 20" in text and "estimate of the time left" in text
    assert "it is running, or was interrupted" in text
    (runs[0].folder / "vis_data" / "scalars.json").unlink()
    log = runs[0].folder / f"{runs[0].folder.name}.log"
    log.write_text(log.read_text().partition("Iter(train)")[0].rpartition("\n")[0])
    text = text_of(write_training_report(copy))
    assert "The training has not logged anything yet" in text and "PyTorch" in text and "max_iters=20" in text
    shutil.rmtree(runs[0].folder / "vis_data")
    log.write_text("")
    assert "The training has not logged anything yet" in text_of(write_training_report(copy))


def test_without_pictures_it_says_how_to_get_them(copy):
    for folder in copy.glob("*/vis_data/vis_image"):
        shutil.rmtree(folder)
    text = text_of(write_training_report(copy))
    assert "has written no pictures" in text and "maskfeat.MaskFeatVisualizationHook" in text
    for path in copy.glob("*.pth"):
        path.unlink()
    assert "has written no pictures" not in text_of(write_training_report(copy))


def test_bad_files_and_losses_are_listed(copy):
    (copy / "bad_files.txt").write_text("".join(f"videos/{i}.mp4\tno <video>\n" for i in range(60)))
    for i in (12, 3):
        folder = copy / "non_finite" / f"iter_{i}_rank_0"
        folder.mkdir(parents=True)
        samples = [dict(index=n, file=f"{n}.jpg") for n in range(5)]
        report = dict(iteration=i, rank=0, losses=dict(loss="nan"), grad_norm=None, action="skip", samples=samples)
        (folder / "report.json").write_text(json.dumps(report))
    torn = copy / "non_finite" / "iter_13_rank_0"
    torn.mkdir()
    (torn / "report.json").write_text('{"iter')
    text = text_of(write_training_report(copy))
    assert "Files that cannot be read: 60" in text and "videos/49.mp4 no &lt;video&gt;" in text
    assert "videos/50.mp4" not in text and "10 more are not shown" in text
    assert "Losses and gradients that are not finite: 2" in text
    assert text.index(" 3 0 loss: nan skip 0.jpg") < text.index(" 12 0 loss: nan skip 0.jpg")
    assert "3.jpg and 1 more" in text


def test_validation_and_test_of_a_finetuning(finetuning):
    runs = read_runs(finetuning)
    trained = scalars(runs[0])
    history = join_runs(runs)
    iterations, values = history.metrics["accuracy/top1"]
    # the interval of the log is 3, and mmengine numbers both validations by the epoch, which is 0
    np.testing.assert_array_equal(iterations, [2, 4])
    np.testing.assert_array_equal(values, [line["accuracy/top1"] for line in trained if "accuracy/top1" in line])
    assert set(history.metrics) == {"accuracy/top1"}
    text = text_of(write_training_report(finetuning))
    assert "Image classification, by mmpretrain." in text and "4 of 4" in text
    tested = runs[1].test["accuracy/top1"]
    assert f"Test {runs[1].folder.name} measure value accuracy/top1 {tested:.4g}" in text


def test_epochs_are_counted_by_the_text_log(copy):
    """mmengine numbers validations by the epoch. The length of an epoch is in the text log."""
    run = read_runs(copy)[0]
    log = run.folder / f"{run.folder.name}.log"
    log.write_text(re.sub(r"Iter\(train\) +\[ *(\d+)/20\]", r"Epoch(train)  [1][\1/10]", log.read_text()))
    config = run.folder / "vis_data" / "config.py"
    config.write_text(re.sub(r"max_iters=20", "max_epochs=4", config.read_text()))
    with (run.folder / "vis_data" / "scalars.json").open("a") as file:
        file.write('{"accuracy/top1": 50.0, "data_time": 0.1, "time": 0.1, "step": 1}\n')
        file.write('{"knn/top1_k20": 40.0, "step": 9}\n')
    (run,) = [item for item in read_runs(copy) if item.folder == run.folder]
    history = join_runs([run])
    assert history.metrics["accuracy/top1"][0].tolist() == [10] and history.metrics["knn/top1_k20"][0].tolist() == [9]
    assert (history.epoch_length, history.length) == (10, 40)


def test_settings_are_read_without_running_the_config():
    text = (
        "import os\na = dict(b=[1, (2.5, 'x')], c=dict(type='T', d=None))\ne = {'f': -1, **a}\ng = os.getcwd()\nh = 1"
    )
    settings = dict(a=dict(b=[1, [2.5, "x"]], c=dict(type="T", d=None)), e=dict(f=-1), h=1)
    assert read_settings(text) == settings
    assert read_settings("a = (") == {}


def test_pictures_of_first_middle_and_last_step(tmp_path):
    for step in (0, 5, 10, 15, 20):
        Image.new("RGB", (30, 20)).save(tmp_path / f"sample_0_{step}.png")
    frames = [Image.new("RGB", (30, 20), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "sample_0_20.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (4000, 20)).save(tmp_path / "large.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "sample_0_5.png").read_bytes()[:40])
    pictures, left_out = make_pictures(sorted(tmp_path.iterdir()))
    shown = {picture.title: list(picture.parts) for picture in pictures}
    assert shown == {
        "sample_0 (png)": ["step 0", "step 10", "step 20"],
        "sample_0 (gif)": ["step 20"],
        "large (png)": ["large.png"],
    }
    assert left_out == 3  # two steps and the damaged file
    large = read_media(tmp_path / "large.png")
    assert (large.mime, large.width, large.height) == ("image/webp", 1600, 8)
    gif = read_media(tmp_path / "sample_0_20.gif")
    assert (gif.mime, gif.data) == ("image/gif", (tmp_path / "sample_0_20.gif").read_bytes())


def test_what_is_no_training_is_one_line(tool, interrupted_training, copy, tmp_path, capsys):
    def error(*arguments):
        assert tool([str(argument) for argument in arguments]) == 1
        text = capsys.readouterr().err.strip()
        assert text.startswith("error: ") and "\n" not in text
        return text

    assert "does not exist" in error(tmp_path / "none")
    assert "holds no run of a training" in error(tmp_path)
    assert "but its folders parts do; give one of them" in error(copy.parent)
    run = read_runs(interrupted_training)[0].folder
    assert f"give its work directory, {interrupted_training}" in error(run)
    assert f"give its work directory, {interrupted_training}" in error(run / "vis_data")
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in error(file)
    assert "--out" in error(interrupted_training, "--out", file / "page.html")
    with pytest.raises(ConfigError, match="holds no run"):
        read_runs(tmp_path)


def test_the_tool_says_where_the_page_is(tool, copy, capsys):
    assert tool([str(copy)]) == 0
    assert re.fullmatch(rf"{re.escape(str(copy / 'report.html'))} \(\d\.\d MB\)", capsys.readouterr().out.strip())
    with pytest.raises(SystemExit):
        tool(["--help"])
    assert "example:" in capsys.readouterr().out
