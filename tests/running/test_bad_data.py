"""Messages when data stop a training: tools/train.py with real files and workers that really end."""

import os
import signal
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from tool_modules import load_tool
from torch.utils.data import DataLoader
from warm_python import python

from maskfeat_plugin.registry import DATASETS
from maskfeat_plugin.running.bad_data import describe_data_error

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "demo" / "maskfeat_mvit-tiny_moving-digits.py"
NAMES = [f"{i}.mp4" for i in range(4)]


# A worker that gets a signal, as on a system without free memory, or ends by itself, at a file
ENDS = """
import ctypes
import os
import time

from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class EndsAt(BaseTransform):
    def __init__(self, name, number=None):
        self.name, self.number = name, number

    def transform(self, results):
        if self.number == "slow":
            time.sleep(0.4)
            return results
        if get_worker_info() is not None and results["filename"].endswith(self.name):
            if self.number == "holds the interpreter":
                ctypes.PyDLL(None).sleep(600)
            os._exit(3) if self.number is None else os.kill(os.getpid(), self.number)
        return results
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Write four videos and their list, and return the folder."""
    for i, name in enumerate(NAMES):
        frames = np.random.default_rng(i).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height = stream.width = 64
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    (tmp_path / "videos.txt").write_text("".join(f"{name} 0\n" for name in NAMES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(folder):
    """Return a function that trains the demo's tiny MViT on the listed videos, as tools/train.py does."""
    tool = load_tool("train")
    cfg = Config.fromfile(CONFIG)
    dataset = cfg.train_dataloader.dataset
    dataset.update(
        type="maskfeat.SkipBadFiles",
        dataset_type="maskfeat.VideoDataset",
        data_root=".",
        ann_file="videos.txt",
        data_prefix=dict(video=""),
    )
    cfg.train_dataloader.update(batch_size=2, num_workers=2, persistent_workers=True)
    cfg.train_cfg.max_iters = 12
    cfg.param_scheduler = []
    cfg.dump("config.py")
    return lambda *options: tool.main(["config.py", *(["--cfg-options", *options] if options else [])])


def error_of(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def list_videos(folder, count, *others):
    names = [*(NAMES * count)[:count], *others]
    (folder / "videos.txt").write_text("".join(f"{name} 0\n" for name in names))


def test_training_goes_on_without_a_bad_file(folder, train):
    list_videos(folder, 19, "missing.mp4")
    bad_files = folder / "work_dirs" / "config" / "bad_files.txt"
    bad_files.parent.mkdir(parents=True)
    bad_files.write_text("of/another/training.mp4\tand mended since\n" * 5)
    assert train("train_dataloader.dataset.limit=0.05") == 0
    (line,) = bad_files.read_text().splitlines()
    path, reason, state = line.split("\t")
    assert state == "missing"
    assert Path(path) == Path("missing.mp4") and "is not there" in reason


def test_a_resumed_training_knows_the_bad_files(folder, train):
    list_videos(folder, 19, "missing.mp4")
    bad_files = folder / "work_dirs" / "config" / "bad_files.txt"
    bad_files.parent.mkdir(parents=True)
    bad_files.write_text("./missing.mp4\tfound before\tmissing\n")
    assert train("train_dataloader.dataset.limit=0.05", "resume=True") == 0
    assert bad_files.read_text() == "./missing.mp4\tfound before\tmissing\n"
    (log,) = bad_files.parent.glob("*/*.log")
    assert "bad_files.txt lists 1 bad files" in log.read_text()


def test_training_stops_with_the_list(folder, train, capsys):
    list_videos(folder, 18, "missing.mp4", "empty.mp4")
    (folder / "empty.mp4").touch()
    assert train("train_dataloader.dataset.limit=0.05") == 1
    line = error_of(capsys)
    assert "train_dataloader.dataset: 2 of 20 files cannot be read" in line and "allows 1" in line
    assert "missing.mp4 (" in line and "empty.mp4 (" in line and "work_dirs/config/bad_files.txt" in line
    assert len((folder / "work_dirs" / "config" / "bad_files.txt").read_text().splitlines()) == 2


def test_a_worker_that_is_killed_in_training(folder, train):
    """The training is a separate process, which gets the signals of its workers."""
    (folder / "ends.py").write_text(ENDS)
    cfg = Config.fromfile("config.py")
    cfg.custom_imports.imports = ["maskfeat_plugin", "ends"]
    ends = dict(type="maskfeat.EndsAt", name="3.mp4", number=int(signal.SIGKILL))
    cfg.train_dataloader.dataset.pipeline = [ends, *cfg.train_dataloader.dataset.pipeline]
    cfg.dump("config.py")
    command = [python(), str(ROOT / "tools" / "train.py"), "config.py"]
    environment = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    # not always the last line: the other worker may report that its result was not received
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: a worker of train_dataloader (process")
    assert "3.mp4) was killed from outside. Most likely the memory ran out" in line
    assert "train_dataloader.num_workers=2" in line


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "was killed from outside. Most likely the memory ran out"),
        (signal.SIGBUS, "ran out of shared memory, /dev/shm"),
        (signal.SIGSEGV, "crashed inside a decoder"),
        (None, "ended unexpectedly"),
    ],
)
def test_ends_of_workers(folder, number, message):
    loader = loader_that_ends(number)
    told = None
    try:
        for _ in loader:
            pass
    except Exception as error:
        told = describe_data_error(error, loader, "train_dataloader")
    assert message in told and "2.mp4)" in told
    left_out = loader.dataset.list_file.read_text() if loader.dataset.list_file.exists() else ""
    if number == signal.SIGSEGV:
        assert left_out.startswith("2.mp4\tit crashed a worker") and str(loader.dataset.list_file) in told
    else:
        assert left_out == ""


def test_a_worker_whose_decoder_keeps_the_interpreter(folder):
    """The resumed training knows the file, and continues without it."""
    # the worker hangs at its first file: it could not pass on the memory of a batch that it has sent before
    loader = loader_that_ends("holds the interpreter", name="0.mp4", timeout=4)
    with pytest.raises(RuntimeError) as caught:
        list(loader)
    told = describe_data_error(caught.value, loader, "train_dataloader")
    assert "0.mp4) gave no batch in 4 s, train_dataloader.timeout. It is listed in" in told and "--resume" in told
    del caught
    resumed = loader_that_ends("holds the interpreter", name="0.mp4", timeout=60)
    assert len(list(resumed)) == len(NAMES)


def test_a_worker_that_is_only_slow(folder):
    loader = loader_that_ends("slow", timeout=1, batch_size=4)
    with pytest.raises(RuntimeError) as caught:
        list(loader)
    told = describe_data_error(caught.value, loader, "train_dataloader")
    assert "gave no batch in 1 s" in told and "Set a longer timeout" in told
    assert not loader.dataset.list_file.exists()


def test_end_of_a_worker_whose_signal_is_lost(folder):
    """The signal is lost if it arrives during a destructor, which swallows the exception of the handler."""
    loader = loader_that_ends(signal.SIGKILL)
    batches = iter(loader)
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with pytest.raises((RuntimeError, OSError, EOFError)) as caught:
            list(batches)
        told = describe_data_error(caught.value, loader, "train_dataloader")
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert "was killed from outside. Most likely the memory ran out" in told and "2.mp4)" in told


def loader_that_ends(number, name="2.mp4", timeout=0, batch_size=1):
    """Return a dataloader over the folder's videos whose worker ends or hangs at one of them, or is slow at each."""
    exec(ENDS, {})
    pipeline = [
        dict(type="maskfeat.EndsAt", name=name, number=number),
        dict(type="maskfeat.OpenVideo"),
        dict(type="SampleFrames", clip_len=2),
        dict(type="maskfeat.DecodeClip"),
        dict(type="FormatShape", input_format="NCTHW"),
        dict(type="PackActionInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmaction"):
        data = DATASETS.build(
            dict(
                type="maskfeat.SkipBadFiles",
                dataset_type="maskfeat.VideoDataset",
                ann_file="videos.txt",
                pipeline=pipeline,
                list_file="left_out.txt",
                limit=0.25,
            )
        )
    return DataLoader(data, batch_size=batch_size, num_workers=1, collate_fn=pseudo_collate, timeout=timeout)


def test_other_errors_are_not_of_the_data(folder):
    loader = DataLoader([0])
    assert describe_data_error(ValueError("shapes differ"), loader, "train_dataloader") is None
