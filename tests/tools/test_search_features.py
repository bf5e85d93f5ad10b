"""Tests of tools/search_features.py: it finds the nearest rows, and refuses queries with another model."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tool_modules import load_tool

from maskfeat_plugin.apis.features.files import FeatureTable, read_features, write_features
from maskfeat_plugin.apis.features.search import nearest_rows, search_features

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"
IMAGE, CLIP = "maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits"
FRAMES, VIDEOS = "data/moving_digits/frames/val", "data/moving_digits/videos/val"
extract, search = load_tool("extract_features").main, load_tool("search_features").main


def weights(config):
    return str(DEMO / "weights" / f"{config}.pth")


@pytest.fixture(scope="module")
def frames(digits, tmp_path_factory):
    """File with the features of frames, extracted in the folder of the data."""
    out = tmp_path_factory.mktemp("features") / "frames.npz"
    arguments = [IMAGE, weights(IMAGE), str(digits / FRAMES), "--out", str(out), "--dtype", "float16"]
    assert extract([*arguments, "--device", "cpu"]) == 0
    return out


def printed(capsys, *arguments):
    assert search([*map(str, arguments), "--device", "cpu"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if re.match(r" ?-?[01]\.\d{4} ", line)]
    return [(float(line[0]), *map(float, line[1:-1]), line[-1]) for line in lines]


def test_nearest_images(frames, capsys):
    table = read_features(frames)
    vectors = table.features.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number in (3, 17):
        found = printed(capsys, table.names[number], "--in", frames, "--count", 6)
        similarities = vectors @ vectors[number]
        assert found[0] == (pytest.approx(1.0, abs=1e-3), table.names[number])
        expected = np.sort(similarities)[::-1][:6]
        np.testing.assert_allclose([similarity for similarity, _ in found], expected, atol=2e-3)
        assert all(similarities[table.names.index(name)] > expected[-1] - 2e-3 for _, name in found)


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_nearest_windows(ending, digits, tmp_path, capsys):
    out = tmp_path / f"windows.{ending}"
    arguments = [CLIP, weights(CLIP), str(digits / VIDEOS), "--out", str(out), "--every", "0.5", "--device", "cpu"]
    assert extract(arguments) == 0
    table = read_features(out)
    row = 4
    start, end = table.times[row]
    found = printed(capsys, table.names[row], "--at", (start + end) / 2, "--in", out)
    assert len(found) == min(10, len(table.names))
    assert found[0][0] == pytest.approx(1.0, abs=1e-3) and found[0][-1] == table.names[row]
    assert found[0][1:3] == (pytest.approx(start, abs=0.01), pytest.approx(end, abs=0.01))


def test_rows_in_several_chunks_and_equal_ones():
    features = np.random.default_rng(0).standard_normal((140_000, 4)).astype(np.float16)
    features[[5, 70_000, 139_999]] = features[100_000]
    query = features[100_000].astype(np.float32)
    similarities, rows = nearest_rows(features, query, 7)
    assert rows[:4].tolist() == [5, 70_000, 100_000, 139_999]
    unit = features.astype(np.float64) / np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    expected = np.sort(unit @ (query / np.linalg.norm(query)))[::-1]
    np.testing.assert_allclose(similarities, expected[:7], atol=1e-5)
    similarities, rows = nearest_rows(features[:3], np.zeros(4), 7)
    assert len(rows) == 3 and not similarities.any()


def test_faiss_finds_the_same(frames):
    pytest.importorskip("faiss", reason="an extra: pip install 'maskfeat_plugin[search]'")
    query = read_features(frames).names[3]
    exact, found = (search_features(frames, query, index=index) for index in ("numpy", "faiss"))
    assert [row.name for row in found] == [row.name for row in exact]
    np.testing.assert_allclose([r.similarity for r in found], [r.similarity for r in exact], atol=1e-5)


def test_another_model_is_refused(frames, tmp_path, capsys):
    content = torch.load(weights(IMAGE), weights_only=False)
    other = tmp_path / "other.pth"
    torch.save(content, other)  # other bytes
    query = read_features(frames).names[0]
    for arguments, message in (
        (["--checkpoint", other], r"from another checkpoint \(\S+moving-digits.pth\) than \S+other.pth"),
        (["--config", "vit-tiny_moving-digits-class"], "from another config .* --config, and its --cfg-options"),
        (["--cfg-options", "model.backbone.drop_rate=0.1"], "from another config"),
    ):
        assert search([query, "--in", str(frames), *map(str, arguments)]) == 1
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert re.search(message, error), error


def test_one_line_of_error(frames, digits, tmp_path, monkeypatch, capsys):
    query = read_features(frames).names[0]
    tokens = tmp_path / "tokens.npz"
    table = FeatureTable(["a.png"], np.zeros(1, np.int64), np.zeros((1, 25, 96), np.float32))
    write_features(tokens, [table], 1)
    old = tmp_path / "old.npz"
    write_features(old, [FeatureTable(["a.png"], np.zeros(1, np.int64), np.zeros((1, 96), np.float32))], 1)
    monkeypatch.setitem(sys.modules, "faiss", None)  # Python then raises ImportError, as for a missing module
    for arguments, message in (
        ([query, "--in", tmp_path / "nowhere.npz"], "nowhere.npz does not exist"),
        ([query, "--in", tokens], "features of every token"),
        ([query, "--in", old], "does not say which checkpoint"),
        ([digits / FRAMES, "--in", frames], "has 24 files. Search is for one"),
        ([query, "--in", frames, "--at", "1"], "takes no clips from video files"),
        ([query, "--in", frames, "--count", "0"], "count=0"),
        ([query, "--in", frames, "--index", "faiss"], "pip install 'maskfeat_plugin[search]'"),
        ([tmp_path / "no.png", "--in", frames], "no.png does not exist"),
        ([__file__, "--in", frames], "test_search_features.py cannot be read"),
    ):
        assert search(list(map(str, arguments))) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and message in errors[0], errors
