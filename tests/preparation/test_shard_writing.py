"""``maskfeat shards``: the samples of a data set in tar shards, complete or absent, also after interruptions."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import webdataset
from mmengine.fileio import get
from mmengine.registry import DefaultScope
from moving_scenes import write_video
from tool_modules import TOOLS, load_tool

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.preparation.shard_writing import LEFT_OUT, ShardSettings, write_shards
from maskfeat_plugin.registry import DATASETS

COUNT = 23


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a folder with three classes of images."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        path = folder / "abc"[i % 3] / f"{i:02d}.{'png' if i % 2 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    return folder


def build(type, scope="mmpretrain", pipeline=(), **settings):
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(dict(type=type, pipeline=list(pipeline), **settings))


def write(dataset, out, samples=5, **settings):
    return write_shards(dataset, out, ShardSettings(samples, **settings), workers=2, progress=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar*"))}


def pattern_of(report):
    return report.summary().splitlines()[-1].removeprefix("ann_file=").strip("'")


def test_images_with_labels(images, tmp_path):
    plain = build("CustomDataset", data_prefix=str(images))
    report = write(plain, tmp_path)
    assert (report.shards, report.written, report.samples, report.problems) == (5, 5, COUNT, {})
    packed = build("maskfeat.ImageDataset", ann_file=pattern_of(report))
    assert packed.shard_sizes == [5, 5, 5, 5, 3]
    expected = {
        Path(info["img_path"]).read_bytes(): info["gt_label"] for info in map(plain.get_data_info, range(COUNT))
    }
    found = [packed.get_data_info(i) for i in range(COUNT)]
    assert {get(info["img_path"]): info["gt_label"] for info in found} == expected
    assert {info["name"] for info in found} == {str(path.relative_to(images)) for path in images.rglob("*.*g")}
    assert len({info["gt_label"] for info in found[:8]}) > 1  # in random order


def test_webdataset_reads_the_shards(images, tmp_path):
    report = write(build("CustomDataset", data_prefix=str(images)), tmp_path)
    samples = list(webdataset.WebDataset(pattern_of(report), shardshuffle=False))
    assert len(samples) == COUNT
    assert all(set(json.loads(sample["json"])) == {"gt_label", "name"} for sample in samples)


def test_order_of_the_data_set(images, tmp_path):
    plain = build("CustomDataset", data_prefix=str(images))
    packed = build("maskfeat.ImageDataset", ann_file=pattern_of(write(plain, tmp_path, seed=None)))
    infos = [(plain.get_data_info(i), packed.get_data_info(i)) for i in range(COUNT)]
    assert all(Path(one["img_path"]).read_bytes() == get(other["img_path"]) for one, other in infos)


def test_clips_with_several_labels(tmp_path):
    for i in range(3):
        write_video(tmp_path / "videos" / f"{i}.mp4", size=(64, 48), seconds=1)
    (tmp_path / "list.txt").write_text("0.mp4 0 2\n1.mp4 1\n2.mp4\n")
    settings = dict(scope="mmaction", multi_class=True, num_classes=3)
    place = dict(ann_file="list.txt", data_root=str(tmp_path), data_prefix=dict(video="videos"))
    plain = build("maskfeat.VideoDataset", **place, **settings)
    report = write(plain, tmp_path / "out", 1, seed=None)
    packed = build("maskfeat.VideoDataset", ann_file=pattern_of(report), **settings)
    for i in range(3):
        one, other = plain.get_data_info(i), packed.get_data_info(i)
        assert one["label"].tolist() == other["label"].tolist()
        assert Path(one["filename"]).read_bytes() == get(other["filename"])


def test_bad_files_are_left_out_and_named(images, tmp_path):
    names = [f"{path.relative_to(images)} 0" for path in sorted(images.rglob("*.*g"))]
    (images / "empty.jpg").write_bytes(b"")
    (tmp_path / "list.txt").write_text("\n".join([*names, "none.jpg 1", "empty.jpg 1"]))
    data = dict(type="maskfeat.SkipBadFiles", dataset_type="CustomDataset", list_file=str(tmp_path / "bad.txt"))
    dataset = build(**data, ann_file=str(tmp_path / "list.txt"), data_prefix=str(images))
    report = write(dataset, tmp_path / "out")
    (images / "empty.jpg").unlink()
    assert report.samples == COUNT
    assert {Path(path).name: reason for path, reason in report.problems.items()}["empty.jpg"] == "it is empty"
    left_out = (tmp_path / "out" / LEFT_OUT).read_text()
    assert left_out.count("\n") == 2 and "none.jpg\t" in left_out and "2 left out" in report.summary()


def test_no_readable_file(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg 0\nb.jpg 0\n")
    dataset = build("CustomDataset", ann_file=str(tmp_path / "list.txt"), data_prefix=str(tmp_path))
    with pytest.raises(ConfigError, match="none of its 2 files can be read, such as .*a.jpg"):
        write(dataset, tmp_path / "out")
    assert not contents(tmp_path / "out")


def test_finished_shards_are_kept(images, tmp_path):
    dataset = build("CustomDataset", data_prefix=str(images))
    write(dataset, tmp_path)
    before = contents(tmp_path)
    (tmp_path / "shard-000002.tar").unlink()
    (tmp_path / "shard-000003.tar.index.json").unlink()
    os.truncate(tmp_path / "shard-000001.tar", 5000)
    assert write(dataset, tmp_path).written == 3
    assert contents(tmp_path) == before
    assert write(dataset, tmp_path).written == 0
    with pytest.raises(ConfigError, match="has shards of other samples or settings"):
        write(dataset, tmp_path, 6)
    with pytest.raises(ConfigError, match="has shards of other samples or settings"):
        write(build("CustomDataset", data_prefix=str(images / "a"), with_label=False), tmp_path)


def test_samples_without_a_file(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "list.txt").write_text("frames 3 0\n")
    place = dict(ann_file=str(tmp_path / "list.txt"), data_prefix=dict(img=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"sample 0 \(.*frames\) is no image or video file"):
        write(build("RawframeDataset", "mmaction", **place), tmp_path / "out")


CONFIG = """
default_scope = "mmpretrain"
train_dataloader = dict(dataset=dict(type="CustomDataset", data_prefix="{images}", pipeline=[]))
"""


@pytest.fixture
def config(images, tmp_path):
    path = tmp_path / "data.py"
    path.write_text(CONFIG.format(images=images))
    return path


def test_command(config, tmp_path, capsys):
    tool = load_tool("data/to_shards")
    out = tmp_path / "out"
    assert tool.main([str(config), str(out), "--samples", "10", "--workers", "1", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{COUNT} samples in 3 shards, 3 written now") and "shard-{000000..000002}.tar" in said
    assert tool.main([str(config), str(out), "--dataloader", "val", "--quiet"]) == 1
    assert "the config has no val_dataloader.dataset. Name another --dataloader." in capsys.readouterr().err


def test_killed_command_continues(config, tmp_path):
    command = [sys.executable, "-W", "ignore", str(TOOLS / "data" / "to_shards.py"), str(config)]
    settings = ["--samples", "1", "--workers", "1", "--quiet"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, str(out), *settings], env=env, start_new_session=True)
    while process.poll() is None and len(list(out.glob("*.tar"))) < 3:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for path in out.glob("*.tar"):
        with tarfile.open(path) as tar:  # complete
            assert len(tar.getmembers()) == 2
    for folder in (out, tmp_path / "whole"):
        assert load_tool("data/to_shards").main([str(config), str(folder), *settings]) == 0
    assert contents(out) == contents(tmp_path / "whole") and len(contents(out)) == 2 * COUNT
