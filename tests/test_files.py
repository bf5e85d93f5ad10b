"""Files that are complete or absent: on a full disk, after a kill, and with two processes at once."""

import dataclasses
import errno
import fcntl
import os
import re
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import REASON, full_disk

import maskfeat_plugin
from maskfeat_plugin.apis.features.files import FeatureTable, read_features, write_features
from maskfeat_plugin.datasets.moving_digits import build_moving_digits
from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.files import append_text, move_into_place, unfinished_path, writing
from maskfeat_plugin.preparation.files import write_file
from maskfeat_plugin.running.command_line import run_tool
from maskfeat_plugin.visualization import write_report
from maskfeat_plugin.visualization.animation import write_frames
from projects.benchmark.result_tables import write_run
from projects.demo.orchestrate import DATA
from projects.demo.train import write_json

PACKAGE = Path(maskfeat_plugin.__file__).parent
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
FEATURES = FeatureTable([f"{i}.jpg" for i in range(200)], np.arange(200), RNG.standard_normal((200, 64), np.float32))
WRITERS = {
    "features.npz": lambda path: write_features(path, [FEATURES], 200),
    "features.parquet": lambda path: write_features(path, [FEATURES], 200),
    "features.lmdb": lambda path: write_features(path, [FEATURES], 200),
    "picture.png": lambda path: write_frames(path, FRAMES[:1]),
    "picture.jpg": lambda path: write_frames(path, FRAMES[:1]),
    "picture.webp": lambda path: write_frames(path, FRAMES[:1]),
    "clip.gif": lambda path: write_frames(path, FRAMES),
    "clip.mp4": lambda path: write_frames(path, FRAMES),
    "report.html": lambda path: write_report(path, title="Training"),
    "run.json": lambda path: write_run(path, "machine" * 1000, 1, []),
    "results.json": lambda path: write_json(path, dict(text="a" * 10000)),
    "train.txt": lambda path: write_file(path, bytes(10000)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_is_one_error_and_keeps_what_is_there(name, tmp_path):
    path = tmp_path / name
    WRITERS[name](path)
    whole = path.stat().st_size
    path.write_text("old")
    # some libraries ignore that the end of a file is not written; x264 sometimes gives some bytes more or less
    for size in (100, whole // 2, whole - (500 if name == "clip.mp4" else 1)):
        with full_disk(size), pytest.raises(WriteError) as caught:
            WRITERS[name](path)
        assert str(caught.value) == f"{path} cannot be written: {REASON}. Make room there, or name another place."
        assert [file.name for file in tmp_path.iterdir()] == [name] and path.read_text() == "old"
    WRITERS[name](path)  # the file is written when there is room
    assert [file.name for file in tmp_path.iterdir()] == [name] and path.stat().st_size > 100


def test_what_a_library_raises_on_a_full_disk_is_seen_through(tmp_path):
    with full_disk(), pytest.raises(WriteError, match=f"weights.pth cannot be written: {REASON}"):
        with writing(tmp_path / "weights.pth") as unfinished:
            torch.save(torch.ones(10000), unfinished)  # the archive of torch.save raises its own RuntimeError
    with pytest.raises(KeyError), writing(tmp_path / "weights.pth"):  # other errors pass unchanged
        raise KeyError
    with pytest.raises(ConfigError, match="bad input"), writing(tmp_path / "weights.pth"):
        raise ConfigError("bad input")
    assert not list(tmp_path.iterdir())


def test_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html" / "mine").touch()
    with pytest.raises(WriteError, match="report.html cannot be written: Is a directory"):
        write_report(tmp_path / "report.html", title="new")
    assert [path.name for path in tmp_path.rglob("*")] == ["report.html", "mine"]


def test_data_set_is_not_left_in_part(tmp_path):
    few = dataclasses.replace(DATA, num_train=32, num_val=8, num_test=8, labelled=(8,))
    with full_disk(), pytest.raises(WriteError, match=f"digits cannot be written: {REASON}"):
        build_moving_digits(tmp_path / "digits", few, workers=1, progress=False)
    assert not list(tmp_path.iterdir())


def killed_while_writing(path):
    child = os.fork()
    if child == 0:
        with writing(path) as unfinished:
            unfinished.write_bytes(bytes(1000))
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_left_over_of_killed_processes_is_removed(tmp_path):
    for name in ("b.png", "c.lmdb"):
        killed_while_writing(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {".b.png.unfinished", ".c.lmdb.unfinished"}
    write_frames(tmp_path / "a.png", FRAMES[:1])
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", ".c.lmdb.unfinished"}  # only its own kind is removed
    write_features(tmp_path / "c.lmdb", [FEATURES], 200)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "c.lmdb"}
    assert np.array_equal(read_features(tmp_path / "c.lmdb").features, FEATURES.features)


def test_what_another_process_is_writing_is_kept_and_waited_for(tmp_path):
    other, own = (unfinished_path(tmp_path / name) for name in ("other.png", "own.png"))
    other.write_bytes(b"begun")
    own.write_bytes(b"begun")
    with open(other) as of_other, open(own) as of_own:
        fcntl.flock(of_other, fcntl.LOCK_EX)
        fcntl.flock(of_own, fcntl.LOCK_EX)
        thread = threading.Thread(target=write_frames, args=(tmp_path / "own.png", FRAMES[:1]))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and own.read_bytes() == b"begun"
        own.rename(tmp_path / "own.png")  # as if the other process had finished writing
        fcntl.flock(of_own, fcntl.LOCK_UN)
        thread.join()
        assert other.read_bytes() == b"begun"
    assert {path.name for path in tmp_path.iterdir()} == {other.name, "own.png"}
    assert (tmp_path / "own.png").stat().st_size > 1000


def test_lines_are_appended_whole_or_not_at_all(tmp_path):
    path = tmp_path / "scalars.json"
    append_text(path, "first\n")
    with full_disk(10), pytest.raises(OSError, match=REASON) as caught:
        append_text(path, "second line\n")
    assert caught.value.errno == errno.EFBIG and path.read_text() == "first\n"
    append_text(path, "third\n")
    assert path.read_text() == "first\nthird\n"


def test_output_that_cannot_be_written_is_one_error(monkeypatch, capsys):
    with open("/dev/full", "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run_tool(lambda: print("features of 3 samples")) == 1
    assert capsys.readouterr().err == (
        "error: the standard output cannot be written: No space left on device. Redirect it elsewhere.\n"
    )


def test_full_disk_that_no_writer_knows_of_is_one_error(tmp_path, capsys):
    def work():
        with open("/dev/full", "w") as file:
            file.write("a")

    assert run_tool(work, hint="the same command goes on from here") == 1
    assert capsys.readouterr().err == (
        "error: a file cannot be written: No space left on device. Make room on its disk; the same command goes on "
        "from here\n"
    )


def test_a_folder_replaces_another(tmp_path):
    old, new = tmp_path / "frames", tmp_path / "unfinished"
    for folder in (old, new):
        folder.mkdir()
        (folder / folder.name).write_text("")
    move_into_place(new, old)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["frames", "frames/unfinished"]


def test_a_folder_that_cannot_be_replaced_keeps_its_name(tmp_path):
    new = tmp_path / "unfinished"
    old = new / "frames"
    old.mkdir(parents=True)
    (old / "0.jpg").write_text("old")
    with pytest.raises(OSError):
        move_into_place(new, old)  # no folder can be moved into itself
    assert [path.name for path in new.rglob("*")] == ["frames", "0.jpg"]


def test_names_are_given_in_one_module():
    """Only files.py renames, and ``place``, which moves downloads that it did not write."""
    renaming = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\bos\.(replace|rename)\(|shutil\.move\(", path.read_text())
    }
    assert renaming == {"files.py", "preparation/files.py"}
