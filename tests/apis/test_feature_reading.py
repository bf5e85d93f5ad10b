"""Tests of the extraction of features from files that hang, crash the process that reads them, or disappear."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from torch.utils.data import get_worker_info

from maskfeat_plugin.apis.features.extraction import extract_features
from maskfeat_plugin.apis.features.files import read_features
from maskfeat_plugin.config.input_kinds import IMAGES, VIDEOS
from maskfeat_plugin.config.input_pipeline import find_inputs
from maskfeat_plugin.datasets.manifest import as_table, name_columns, write_manifest
from maskfeat_plugin.errors import ConfigError

DEMO = Path(__file__).parents[2] / "configs" / "demo"
IMAGE = "maskfeat_vit-tiny_moving-digits"


@TRANSFORMS.register_module()
class HarmfulFiles(BaseTransform):
    """Transform that fails in the ways in which a decoder may fail. The name of a file selects the way."""

    def transform(self, results):
        name = Path(results["img_path"]).stem
        if name.endswith("kills"):
            assert get_worker_info() is not None
            os.kill(os.getpid(), signal.SIGKILL)
        elif name.endswith("hangs"):  # and blocks all other threads
            ctypes.PyDLL(None).sleep(1000)
        elif name.endswith("delays"):
            time.sleep(12)
        elif name.endswith("unmounts"):
            folder = Path(results["img_path"]).parent
            folder.rename(folder.with_name("elsewhere"))
        return results


@pytest.fixture
def files(digits, tmp_path):
    """Return a function that writes frames to ``tmp_path / "files"``, some of them with names of harmful files."""

    def make(count, **harmful):
        folder = tmp_path / "files"
        folder.mkdir()
        frames = sorted((digits / "data/moving_digits/frames/val").rglob("*.png"))[:count]
        names = {number: f"{number:02d}{name}.png" for name, number in harmful.items()}
        for number, frame in enumerate(frames):
            (folder / names.get(number, f"{number:02d}.png")).write_bytes(frame.read_bytes())
        return folder

    return make


def extract(folder, **settings):
    cfg = Config.fromfile(DEMO / f"{IMAGE}.py")
    cfg.train_dataloader.dataset.pipeline.insert(1, dict(type="HarmfulFiles"))
    out = folder.parent / "features.npz"
    settings = dict(dict(batch_size=3, part_size=6), **settings)
    done = extract_features(cfg, DEMO / "weights" / f"{IMAGE}.pth", out, str(folder), **settings)
    return done, [Path(name).name for name in read_features(out).names]


def test_files_that_end_the_process_that_reads_them(files):
    folder = files(12, kills=4)
    done, names = extract(folder, workers=2)
    assert (done.rows, done.bad_files) == (11, 1)
    assert names == [path.name for path in sorted(folder.iterdir()) if "kills" not in path.name]
    path, reason = done.bad_list.read_text().strip().split("\t")
    assert path == str(folder / "04kills.png")
    assert "the process that reads it ended (Killed" in reason


def test_files_that_hang_without_letting_other_threads_run(files):
    folder = files(8, hangs=2)
    done, names = extract(folder, workers=1, timeout=2.0)
    assert (done.rows, done.bad_files, len(names)) == (7, 1, 7)
    assert done.bad_list.read_text() == f"{folder / '02hangs.png'}\tTimeoutError: it was not read in 2 s\n"


def test_files_that_take_long_are_no_bad_files(files):
    done, _ = extract(files(8, delays=5), workers=1)
    assert (done.rows, done.bad_files) == (8, 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_files_that_hang(workers, files):
    """Opening a pipe that has no writer never ends. A manifest may name a pipe; a search of a folder leaves it out."""
    folder = files(5)
    os.mkfifo(folder / "pipe.png")
    rows = [dict(name_columns(path.name), kind="image") for path in sorted(folder.iterdir())]
    rows.append(dict(name_columns("worse.png"), kind="image", problem="it is damaged"))
    rows.append(dict(name_columns("a.mp4"), kind="video"))
    write_manifest(folder / "manifest.parquet", folder, [as_table(rows)])
    done, names = extract(folder / "manifest.parquet", workers=workers, timeout=2.0)
    assert (done.rows, done.bad_files, len(names)) == (5, 1, 5)
    assert done.bad_list.read_text() == f"{folder / 'pipe.png'}\tTimeoutError: it was not read in 2 s\n"
    os.close(os.open(folder / "pipe.png", os.O_RDWR))  # releases the thread that still waits


def test_a_disk_that_goes_away_is_no_bad_file(files):
    folder = files(24, unmounts=7)
    with pytest.raises(ConfigError, match=r"07unmounts.png could be read before, but cannot be read now"):
        extract(folder)
    folder.with_name("elsewhere").rename(folder)
    (folder / "07unmounts.png").rename(folder / "07.png")
    done, names = extract(folder)
    assert (done.rows, done.bad_files) == (24, 0)
    assert names[7] == "07.png"


def test_inputs_are_found_without_opening_them(tmp_path):
    """Opening the pipe would never end, so this test would hang."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "damaged.mp4").write_bytes(b"")
    write_manifest(
        tmp_path / "manifest.parquet",
        folder,
        [as_table([dict(name_columns(name), kind="video") for name in ("gone.mp4", os.fsdecode(b"\xff.mp4"))])],
    )
    os.mkfifo(tmp_path / "pipe.mp4")
    rows = [dict(name_columns("pipe.mp4"), kind="video")]
    write_manifest(tmp_path / "pipes.parquet", tmp_path, [as_table(rows)])
    inputs = [folder, tmp_path / "manifest.parquet", tmp_path / "pipes.parquet"]
    names = [item.name for item in find_inputs(inputs, VIDEOS, "a config")]
    below = [os.path.join(folder, name) for name in ("damaged.mp4", "gone.mp4", os.fsdecode(b"\xff.mp4"))]
    assert names == [*below, str(tmp_path / "pipe.mp4")]
    with pytest.raises(ConfigError, match=r"pipes.parquet has no readable image, and a config takes images"):
        find_inputs(tmp_path / "pipes.parquet", IMAGES, "a config")
