"""Tests of tools/extract_features.py: each format has the features of k-NN, also after an interruption."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tool_modules import load_tool
from warm_python import python

from maskfeat_plugin.apis import MaskFeatInferencer
from maskfeat_plugin.apis.features.extraction import extract_features
from maskfeat_plugin.apis.features.files import UNKNOWN, read_features
from maskfeat_plugin.apis.model_loading import load_backbone
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.evaluation.features import compute_features

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"
IMAGE, CLIP = "maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits"
CLASS, MOTION = "vit-tiny_moving-digits-class", "mvit-tiny_moving-digits-motion"
FRAMES, VIDEOS = "data/moving_digits/frames/val", "data/moving_digits/videos/val"


@pytest.fixture(scope="module")
def main():
    return load_tool("extract_features").main


@pytest.fixture
def extract(main, digits, tmp_path, monkeypatch):
    """Function that runs the tool in the folder of the demo's data. It reads the file, unless ``status`` is None."""
    monkeypatch.chdir(digits)

    def run(config, *arguments, out="features.npz", status=0):
        weights = DEMO / "weights" / f"{CLIP if 'mvit' in config else IMAGE}.pth"
        command = [
            str(DEMO / f"{config}.py"),
            str(weights),
            *arguments,
            "--device",
            "cpu",
            "--out",
            str(tmp_path / out),
        ]
        assert main(command) == (status or 0)
        return read_features(tmp_path / out) if status == 0 else None

    return run


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_files(ending, extract, tmp_path):
    table = extract(IMAGE, FRAMES, "--batch-size", "3", "--part-size", "3", out=f"features.{ending}")
    paths = sorted(str(path) for path in Path(FRAMES).rglob("*.png"))
    assert list(table.names) == paths and len(paths) == 24
    assert (table.labels == UNKNOWN).all()
    results = MaskFeatInferencer(IMAGE, device="cpu", show_progress=False)(paths, return_features=True)
    np.testing.assert_allclose(table.features, np.stack([r["features"] for r in results]), rtol=1e-4, atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [f"features.{ending}"]  # no parts


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_labels_and_the_features_of_knn(ending, extract):
    table = extract(CLASS, "--dataset", "val", out=f"features.{ending}")
    lines = [line.split() for line in Path("data/moving_digits/annotations/image_val.txt").read_text().splitlines()]
    assert [Path(name).name for name in table.names] == [Path(name).name for name, _ in lines]
    assert table.labels.tolist() == [int(label) for _, label in lines]
    cfg = Config.fromfile(DEMO / f"{CLASS}.py")
    model = load_backbone(cfg, DEMO / "weights" / f"{IMAGE}.pth")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        features, _ = compute_features(model, Runner.build_dataloader(cfg.val_dataloader))
    np.testing.assert_allclose(table.features, features, rtol=1e-4, atol=1e-5)


def test_npz_by_numpy_alone(extract, tmp_path):
    extract(CLASS, "--dataset", "test")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as content:
        assert set(content) == {"features", "names", "labels", "origin"}
        assert content["features"].shape == (24, 96) and content["features"].dtype == np.float32


@pytest.mark.parametrize("config, shape", [(IMAGE, (25, 96)), (CLASS, (25, 96)), (CLIP, (64, 64)), (MOTION, (64, 64))])
def test_tokens(config, shape, extract):
    """Extract all tokens. MViT's vector is the mean before the norm, so it differs from the mean of the tokens."""
    files = VIDEOS if "mvit" in config else FRAMES
    table = extract(config, files, "--tokens", out="features.parquet")
    assert table.features.shape == (8 if files == VIDEOS else 24, *shape)
    assert len({tuple(token) for token in table.features[0]}) == shape[0]


def test_mean_of_tokens_is_the_vector(extract):
    vectors = extract(CLASS, FRAMES).features
    tokens = extract(CLASS, FRAMES, "--tokens", out="tokens.npz").features
    cosine = (
        (vectors * tokens.mean(1)).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(tokens.mean(1), axis=1)
    )
    assert cosine.min() > 0.9


@pytest.mark.parametrize("config, split", [(MOTION, "train"), (MOTION, "test"), (CLIP, "train")])
def test_videos_of_a_data_set(config, split, extract):
    table = extract(config, "--dataset", split, "--batch-size", "5")
    assert table.features.shape[1] == 64 and np.isfinite(table.features).all()
    assert all(name.endswith(".mp4") for name in table.names)
    lines = Path("data/moving_digits/annotations/motion_test.txt").read_text().splitlines()
    if split == "test":
        assert table.labels.tolist() == [int(line.split()[1]) for line in lines]


def test_random_pipeline_gives_the_same_features(extract):
    """Extract twice with the pre-training pipeline, which crops at random."""
    first = extract(CLIP, "--dataset", "train", out="first.npz")
    assert (extract(CLIP, "--dataset", "train", out="second.npz").features == first.features).all()


def test_killed_and_started_again(extract, digits, tmp_path):
    """Kill the tool after some parts. The next run must reuse the parts and write the same file as without the kill."""
    files = sorted(map(str, Path(FRAMES).rglob("*.png"))) * 40
    arguments = [*files, "--batch-size", "2", "--part-size", "10"]  # 96 parts
    whole = extract(IMAGE, *arguments, out="whole.npz")
    out = tmp_path / "killed.npz"
    parts = tmp_path / ".killed.npz.parts"
    command = [python(), "-W", "ignore", str(ROOT / "tools" / "extract_features.py"), str(DEMO / f"{IMAGE}.py")]
    command += [str(DEMO / "weights" / f"{IMAGE}.pth"), *arguments, "--device", "cpu", "--out", str(out)]
    process = subprocess.Popen(command, cwd=digits, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(list(parts.glob("0*.npz"))) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    done = sorted(parts.glob("0*.npz"))
    assert not out.exists() and 3 <= len(done) < 96
    copy = tmp_path / ".copy.npz.parts"
    shutil.copytree(parts, copy)
    marked = dict(np.load(copy / done[1].name))
    marked["labels"][0] = 7
    np.savez(copy / done[1].name, **marked)
    assert extract(IMAGE, *arguments, out="copy.npz").labels.tolist() == [UNKNOWN] * 10 + [7] + [UNKNOWN] * 949
    extract(IMAGE, *arguments, out=out.name)
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not parts.exists() and len(whole.names) == 960


def test_bad_files_are_left_out_and_listed(extract, tmp_path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    for path in Path(FRAMES).rglob("*.png"):
        (files / path.name).write_bytes(path.read_bytes())
    names = sorted(files.iterdir())
    names[5].write_bytes(names[5].read_bytes()[:60] + bytes(100))  # a whole header
    names[8].write_bytes(b"")
    good = [str(path) for path in names if path not in (names[5], names[8])]
    arguments = (IMAGE, str(files), "--batch-size", "2", "--part-size", "6")
    found = extract(*arguments, "--workers", "2")
    assert f"2 files cannot be read: {tmp_path / 'features.npz.bad_files.txt'}" in capsys.readouterr().out
    assert found.names == good
    listed = (tmp_path / "features.npz.bad_files.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(names[5]), str(names[8])]
    assert all(line.split("\t")[1] for line in listed)
    np.testing.assert_allclose(found.features, extract(IMAGE, *good, out="good.npz").features, rtol=1e-4, atol=1e-5)
    extract(*arguments, "--workers", "0", "--shard", "1/2", out="twice.npz", status=None)
    extract(*arguments, "--workers", "0", out="twice.npz")
    assert (tmp_path / "twice.npz").read_bytes() == (tmp_path / "features.npz").read_bytes()
    assert (tmp_path / "twice.npz.bad_files.txt").read_text().splitlines() == listed


def test_bad_samples_of_a_data_set(extract, tmp_path):
    shutil.copytree("data/moving_digits", tmp_path / "data")
    image, label = (tmp_path / "data/annotations/image_val.txt").read_text().splitlines()[3].split()
    (tmp_path / "data/frames/val" / image).write_bytes(b"no image")
    options = ["--cfg-options", f"val_dataloader.dataset.data_root={tmp_path / 'data'}"]
    table = extract(CLASS, "--dataset", "val", *options)
    assert len(table.names) == 23 and not any(name.endswith(image) for name in table.names)
    (line,) = (tmp_path / "features.npz.bad_files.txt").read_text().splitlines()
    assert line.split("\t")[0].endswith(image)


def test_one_error_where_no_file_can_be_read(extract, tmp_path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    for number in range(5):
        (files / f"{number}.png").write_bytes(b"no image")
    extract(IMAGE, str(files), status=1)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: none of 5 files can be read: \S+/0.png \(.+\), \S+/1.png", error)
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_parts_count_after_files_are_added_and_removed(extract, tmp_path):
    files = sorted(map(str, Path(FRAMES).rglob("*.png")))
    arguments = ["--batch-size", "2", "--part-size", "4"]
    extract(IMAGE, *files[:20], *arguments, "--shard", "1/2", status=None)  # every second part
    parts = sorted((tmp_path / ".features.npz.parts").glob("0*.npz"))
    assert len(parts) == 2
    for part in parts:  # files 4 to 8 and 12 to 16
        marked = dict(np.load(part))
        marked["labels"][:] = 7
        np.savez(part, **marked)
    changed = [*files[20:], *files[:6], *files[7:20]]
    table = extract(IMAGE, *changed, *arguments)
    assert table.names == changed
    marked = [name for name, label in zip(table.names, table.labels, strict=True) if label == 7]
    assert marked == [*files[4:6], files[7], *files[12:16]]
    np.testing.assert_allclose(table.features, extract(IMAGE, *changed, out="anew.npz").features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_shards_in_any_order_give_the_same_file(ending, extract, tmp_path, capsys):
    arguments = [FRAMES, "--batch-size", "2", "--part-size", "4", "--dtype", "float16"]
    for index in (2, 0):
        extract(IMAGE, *arguments, "--shard", f"{index}/3", out=f"shards.{ending}", status=None)
        assert "samples are left to other processes" in capsys.readouterr().out
    assert extract(IMAGE, *arguments, "--shard", "1/3", out=f"shards.{ending}").features.dtype == np.float16
    extract(IMAGE, *arguments, "--workers", "0", "--part-size", "6", out=f"once.{ending}")
    assert (tmp_path / f"shards.{ending}").read_bytes() == (tmp_path / f"once.{ending}").read_bytes()


def test_mixed_precision(extract):
    whole = extract(IMAGE, FRAMES, out="whole.npz").features
    mixed = extract(IMAGE, FRAMES, "--amp", out="mixed.npz").features
    assert mixed.dtype == np.float32 and not np.array_equal(mixed, whole)
    np.testing.assert_allclose(mixed, whole, atol=0.05 * np.abs(whole).max())


def test_two_processes_give_what_one_does(extract, digits, tmp_path):
    """Share the work by torchrun, and by starting the same command twice. No part may be done twice."""
    arguments = [FRAMES, "--batch-size", "2", "--part-size", "2", "--workers", "1"]
    extract(IMAGE, *arguments, out="once.npz")
    tool = [str(ROOT / "tools" / "extract_features.py"), str(DEMO / f"{IMAGE}.py")]
    tool += [str(DEMO / "weights" / f"{IMAGE}.pth"), *arguments, "--device", "cpu", "--out"]
    ranks = [python(), "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads()), PYTHONPATH=str(ROOT))
    ranked = subprocess.run(
        [*ranks, *tool, str(tmp_path / "ranks.npz"), "--launcher", "pytorch"],
        cwd=digits,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ranked.returncode == 0, ranked.stderr
    assert len(re.findall("features of 24 samples", ranked.stdout)) == 1
    assert (tmp_path / "ranks.npz").read_bytes() == (tmp_path / "once.npz").read_bytes()
    # a rank that starts after the others have finished all work
    extract(IMAGE, *arguments, "--shard", "1/2", out="ranks.npz")
    command = [python(), "-W", "ignore", *tool, str(tmp_path / "same.npz")]
    same = [
        subprocess.Popen(command, cwd=digits, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=600)[0].decode() for process in same]
    late = [output for process, output in zip(same, outputs, strict=True) if process.returncode]
    # a process that starts after the other has ended is refused, since its file exists
    assert len(late) < 2 and all("same.npz is there already" in output for output in late), outputs
    assert sum("features of 24 samples" in output for output in outputs) == 1, outputs
    assert (tmp_path / "same.npz").read_bytes() == (tmp_path / "once.npz").read_bytes()


def test_parts_of_other_settings(extract, capsys):
    arguments = [FRAMES, "--part-size", "2", "--shard", "0/2"]
    extract(IMAGE, *arguments, "--batch-size", "2", status=None)
    extract(IMAGE, *arguments, "--batch-size", "1", status=1)
    assert "with another batch_size" in capsys.readouterr().err
    extract(IMAGE, *arguments, "--batch-size", "2", "--tokens", status=1)
    assert "with another model, tokens" in capsys.readouterr().err
    extract(IMAGE, *arguments, "--batch-size", "2", "--amp", "--dtype", "float16", status=1)
    assert "with another amp, dtype" in capsys.readouterr().err


def test_arrays(tmp_path):
    """Extract arrays from Python. All frames have the same size, so that only their contents distinguish them."""
    image = np.random.default_rng(0).integers(0, 256, (44, 44, 3), dtype=np.uint8)
    cfg = Config.fromfile(DEMO / f"{IMAGE}.py")
    out, weights = tmp_path / "f.npz", DEMO / "weights" / f"{IMAGE}.pth"
    assert extract_features(cfg, weights, out, [image, 255 - image]).rows == 2
    table = read_features(out)
    assert table.names == ["array 0", "array 1"] and not np.allclose(*table.features)
    for arrays, message in (([image, image], None), ([255 - image, image], "with another data")):
        with nullcontext() if message is None else pytest.raises(ConfigError, match=message):
            extract_features(cfg, weights, tmp_path / "g.npz", arrays, batch_size=1, share=(0, 2))


def test_finished_is_not_overwritten(extract, tmp_path, capsys):
    extract(IMAGE, FRAMES)
    before = (tmp_path / "features.npz").read_bytes()
    extract(CLASS, FRAMES, status=1)
    assert "features.npz is there already" in capsys.readouterr().err
    assert (tmp_path / "features.npz").read_bytes() == before


@pytest.mark.parametrize(
    "config, arguments, out, message",
    [
        (IMAGE, [FRAMES], "features.csv", "ends in .npz, .parquet, .lmdb"),
        (IMAGE, [FRAMES, "--launcher", "pytorch"], "f.npz", "--launcher pytorch is for processes started by torchrun"),
        (IMAGE, [], "f.npz", "either INPUTS or --dataset"),
        (IMAGE, [FRAMES, "--dataset", "train"], "f.npz", "either INPUTS or --dataset"),
        (IMAGE, ["--dataset", "val"], "f.npz", "no data set 'val'; it has train."),
        (IMAGE, [VIDEOS], "f.npz", "is a video, and .* takes images"),
        (MOTION, [FRAMES], "f.npz", "is an image, and .* takes videos"),
        (IMAGE, ["nowhere.png"], "f.npz", "nowhere.png does not exist"),
        (
            CLASS,
            ["--dataset", "val", "--cfg-options", "val_dataloader.dataset.data_root=no"],
            "f.npz",
            "data_root='no'",
        ),
    ],
)
def test_one_line_of_error(config, arguments, out, message, extract, tmp_path, capsys):
    extract(config, *arguments, out=out, status=1)
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert re.search(message, error), error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("ending, module", [("parquet", "pyarrow"), ("lmdb", "lmdb")])
def test_package_that_is_not_installed(ending, module, extract, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # Python then raises ImportError, as for a missing module
    extract(IMAGE, FRAMES, out=f"features.{ending}", status=1)
    assert "pip install 'maskfeat_plugin[features]'" in capsys.readouterr().err


def test_name_of_a_config_and_help(main, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(digits)
    weights = str(DEMO / "weights" / f"{IMAGE}.pth")
    assert main([IMAGE, weights, FRAMES, "--out", str(tmp_path / "f.npz"), "--device", "cpu"]) == 0
    assert main([f"{IMAGE}s", weights, FRAMES, "--out", str(tmp_path / "g.npz")]) == 1
    assert f"did you mean {IMAGE}" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--dataset val --out" in capsys.readouterr().out
