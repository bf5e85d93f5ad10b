"""Without decord, PyAV reads every video: the same frames, and one line in the log."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config
from test_decoding import write

SCRIPT = Path(__file__).with_name("without_decord.py")
ROOT = SCRIPT.parents[2]
MOTION = ROOT / "configs" / "demo" / "mvit-tiny_moving-digits-motion.py"
LINE = "decord is not installed: maskfeat_plugin reads the videos with PyAV."


def run(arguments, cwd, *paths):
    """Run Python in a folder and return its output; it must succeed."""
    path = os.pathsep.join(map(str, [*paths, ROOT, os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def read_videos(video, folder, *paths):
    run([SCRIPT, video, folder], folder, *paths)
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def no_decord(tmp_path_factory):
    """Make a folder that hides decord from a Python that has it in its path, and from the child processes."""
    folder = tmp_path_factory.mktemp("no_decord")
    (folder / "sitecustomize.py").write_text('import sys\n\nsys.modules["decord"] = None\n')
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write(tmp_path_factory.mktemp("video") / "a.mp4", 64)


@pytest.fixture(scope="module")
def without(no_decord, video, tmp_path_factory):
    """Read the clips without decord."""
    return read_videos(video, tmp_path_factory.mktemp("without"), no_decord)


@pytest.fixture(scope="module")
def by_decord(video, tmp_path_factory):
    """Read the clips with decord."""
    pytest.importorskip("decord")
    return read_videos(video, tmp_path_factory.mktemp("with"))


@pytest.mark.long
def test_every_config_reads_its_clips(without):
    assert without["active"] and len(without["clips"]) > 80
    for part in ("_k400", "_sthv2", "-ava.py", "-motion.py"):
        assert any(part in name for name in without["clips"])
    for name, (frames, *size, _) in without["clips"].items():
        height, width, channels = size  # the size of the file, or the short side at which the config decodes
        assert frames >= 8 and height >= 96 and channels == 3, name
        assert width == pytest.approx(height * 128 / 96, abs=1), name
    assert without["workers"]["fork"] == without["workers"]["spawn"]


def test_all_is_as_by_decord(without, by_decord):
    assert not by_decord.pop("active")
    for part in ("clips", "workers", "mmaction2"):
        assert without[part] == by_decord[part]
    assert without["preparation"]["frames"] == by_decord["preparation"]["frames"]


def test_the_data_tools_check_and_extract(without):
    found = without["preparation"]
    assert found["reason"] is None and found["frames"][0] == 60
    assert found["checks"][:2] == [None, None]
    for reason in [*found["checks"][2:], found["broken"]]:
        assert reason and "decord" not in reason.lower() and "\n" not in reason
    assert without["mmaction2"]["drawn"][:4] == [64, 96, 128, 3]


@pytest.mark.long
@pytest.mark.parametrize("tool", ["ours", "mmaction2's"])
def test_a_training_says_so_once(no_decord, digits, tmp_path, tool):
    train = ["-m", "maskfeat_cli", "train"]
    if tool == "mmaction2's":
        train = [Path(find_spec("mmaction").submodule_search_locations[0], ".mim", "tools", "train.py")]
    config, text = tmp_path / "motion.py", Config.fromfile(MOTION).pretty_text
    assert text.count("maskfeat.OpenVideo") == text.count("maskfeat.DecodeClip") > 1
    config.write_text(text.replace("maskfeat.OpenVideo", "DecordInit").replace("maskfeat.DecodeClip", "DecordDecode"))
    settings = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.batch_size=4"]
    settings += [f"{name}_dataloader.num_workers=2" for name in ("train", "val")]
    settings += ["param_scheduler.0.end=1", "param_scheduler.1.begin=1"]
    said = run([*train, config, "--work-dir", tmp_path, "--cfg-options", *settings], digits, no_decord)
    assert "acc/top1: " in said and LINE in (ROOT / "docs" / "faq.md").read_text()
    assert said.count(LINE) == 1
    (log,) = tmp_path.glob("*/*.log")
    assert log.read_text().count(LINE) == 1
