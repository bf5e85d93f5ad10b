"""tools/extract_features.py: the features of k-NN, in each format, and the same after an interruption."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tool_modules import load_tool

from maskfeat_plugin.apis import MaskFeatInferencer
from maskfeat_plugin.apis.feature_extraction import extract_to_file
from maskfeat_plugin.apis.feature_files import UNKNOWN, read_features
from maskfeat_plugin.apis.models import load_backbone
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.evaluation.features import extract_features

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
    """Runs the tool where the demo's data are; returns what it has written, or its exit status."""
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
        assert main(command) == status
        return None if status else read_features(tmp_path / out)

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
        features, _ = extract_features(model, Runner.build_dataloader(cfg.val_dataloader))
    np.testing.assert_allclose(table.features, features, rtol=1e-4, atol=1e-5)


def test_npz_by_numpy_alone(extract, tmp_path):
    extract(CLASS, "--dataset", "test")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as content:
        assert set(content) == {"features", "names", "labels"}
        assert content["features"].shape == (24, 96) and content["features"].dtype == np.float32


@pytest.mark.parametrize("config, shape", [(IMAGE, (25, 96)), (CLASS, (25, 96)), (CLIP, (64, 64)), (MOTION, (64, 64))])
def test_tokens(config, shape, extract):
    """Every token; of MViT, whose vector is their mean before the norm, another vector than their mean."""
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
    """The pre-training pipeline crops at random."""
    first = extract(CLIP, "--dataset", "train", out="first.npz")
    assert (extract(CLIP, "--dataset", "train", out="second.npz").features == first.features).all()


@pytest.mark.slow
def test_killed_and_started_again(extract, digits, tmp_path):
    """SIGKILL after some parts; the file is that of a run without it, and the parts were used."""
    files = sorted(map(str, Path(FRAMES).rglob("*.png"))) * 40
    arguments = [*files, "--batch-size", "2", "--part-size", "10"]  # 96 parts
    whole = extract(IMAGE, *arguments, out="whole.npz")
    out = tmp_path / "killed.npz"
    parts = tmp_path / ".killed.npz.parts"
    command = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "extract_features.py"), str(DEMO / f"{IMAGE}.py")]
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


def test_stopped_by_a_broken_file_and_started_again(extract, tmp_path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    for path in Path(FRAMES).rglob("*.png"):
        (files / path.name).write_bytes(path.read_bytes())
    broken = sorted(files.iterdir())[5]
    content = broken.read_bytes()
    broken.write_bytes(content[:60] + bytes(100))  # a whole header
    arguments = (IMAGE, str(files), "--batch-size", "2", "--part-size", "2")
    extract(*arguments, "--workers", "1", status=1)
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{broken} cannot be read" in error
    parts = tmp_path / ".features.npz.parts"
    assert sorted(path.name for path in parts.glob("0*")) == ["000000.npz", "000001.npz"]
    broken.write_bytes(content)
    extract(*arguments)
    extract(*arguments, out="once.npz")
    assert (tmp_path / "features.npz").read_bytes() == (tmp_path / "once.npz").read_bytes()


def test_parts_of_other_settings(extract, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(next(Path(FRAMES).rglob("*.png")).read_bytes()[:60])
    arguments = [FRAMES, str(broken), "--part-size", "2"]
    extract(IMAGE, *arguments, "--batch-size", "2", status=1)
    extract(IMAGE, *arguments, "--batch-size", "1", status=1)
    assert "with another batch_size" in capsys.readouterr().err
    extract(IMAGE, *arguments, "--batch-size", "2", "--tokens", status=1)
    assert "with another model, tokens" in capsys.readouterr().err


def test_arrays(tmp_path):
    """From Python; frames of one size, so that the names alone do not tell the arrays from others."""
    image = np.random.default_rng(0).integers(0, 256, (44, 44, 3), dtype=np.uint8)
    cfg = Config.fromfile(DEMO / f"{IMAGE}.py")
    out, weights = tmp_path / "f.npz", DEMO / "weights" / f"{IMAGE}.pth"
    assert extract_to_file(cfg, weights, out, [image, 255 - image]) == 2
    table = read_features(out)
    assert table.names == ["array 0", "array 1"] and not np.allclose(*table.features)
    broken = tmp_path / "broken.png"
    broken.write_bytes(cv2.imencode(".png", image)[1].tobytes()[:60] + bytes(100))  # a whole header
    for arrays, message in (([image], "cannot be read"), ([255 - image], "with another data")):
        with pytest.raises(ConfigError, match=message):
            extract_to_file(cfg, weights, tmp_path / "g.npz", [*arrays, broken])


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
        (IMAGE, [], "f.npz", "either files or the data set"),
        (IMAGE, [FRAMES, "--dataset", "train"], "f.npz", "either files or the data set"),
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
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks a module that is not there
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
