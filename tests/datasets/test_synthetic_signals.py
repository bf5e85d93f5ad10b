"""Sounds and Solids: the same bytes for the same seed, balanced lists, and classes that differ."""

import itertools
import wave

import numpy as np
import pytest
from tool_modules import load_tool

from maskfeat_plugin.datasets.synthetic_signals import (
    SAMPLE_RATE,
    SOLIDS,
    SOUNDS,
    build_solids,
    build_sounds,
    draw_solid,
    draw_sound,
)

SMALL = dict(num_train=16, num_test=8, num_labelled=8)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("build", "classes"), [(build_sounds, SOUNDS), (build_solids, SOLIDS)])
def test_the_same_seed_gives_the_same_files(tmp_path, build, classes):
    files = contents(build(tmp_path / "a", **SMALL))
    assert files == contents(build(tmp_path / "b", **SMALL)) and len(files) == 16 + 8 + 4
    assert files != contents(build(tmp_path / "c", seed=1, **SMALL))
    for split, count in dict(train=16, test=8, labelled=8).items():
        lines = [line.rsplit(" ", 1) for line in files[f"{split}.txt"].decode().splitlines()]
        assert [int(label) for _, label in lines] == [*range(8)] * (count // 8)
        # a class folder has the same label in mmpretrain's order of folders
        assert all(sorted(classes).index(name.split("/")[1]) == int(label) for name, label in lines)
        assert all(name in files for name, _ in lines)
    assert set(files["labelled.txt"].splitlines()) <= set(files["train.txt"].splitlines())
    data = [content for name, content in files.items() if name.endswith((".wav", ".npy"))]
    assert len(set(data)) == len(data)


def test_other_data_are_kept(tmp_path):
    root = build_sounds(tmp_path / "a", **SMALL)
    before = (root / "train.txt").stat().st_mtime_ns
    assert build_sounds(root, **SMALL) == root and (root / "train.txt").stat().st_mtime_ns == before
    for build, options in ((build_sounds, dict(SMALL, seed=1)), (build_solids, SMALL)):
        with pytest.raises(FileExistsError, match="holds other data"):
            build(root, **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other data"):
        build_solids(tmp_path / "mine", **SMALL)
    assert contents(tmp_path / "mine") == {"a.txt": b"mine"}


def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/sounds cannot be written"):
        build_sounds(tmp_path / "file" / "sounds", **SMALL)
    for options in (dict(num_train=0), dict(num_labelled=17)):
        with pytest.raises(ValueError, match="must be positive, and num_labelled at most num_train"):
            build_sounds(tmp_path / "a", **dict(SMALL, **options))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("kind", SOUNDS)
def test_sounds_fill_the_range(kind, tmp_path):
    for seed in range(5):
        sound = draw_sound(kind, np.random.default_rng(seed))
        assert sound.shape == (9600,) and 0.2 <= np.abs(sound).max() <= 0.95


@pytest.mark.parametrize("seed", range(3))
def test_solids_differ_only_in_their_shape(seed):
    """Noise and places are the same for one seed, so the differences are parts of the solids."""
    volumes = [draw_solid(kind, np.random.default_rng(seed)).astype(int) for kind in SOLIDS]
    assert {volume.shape for volume in volumes} == {(12, 36, 36)}
    for one, other in itertools.combinations(volumes, 2):
        differs = np.abs(one - other) > 45
        assert 0.002 < differs.mean() < 0.3
        assert not differs[:, [0, -1]].all(axis=2).any()


def test_the_command(tmp_path, capsys):
    tool = load_tool("data/signals")
    options = ["--num-train", "8", "--num-test", "8", "--num-labelled", "8"]
    assert tool.main([str(tmp_path), *options]) == 0
    with wave.open(str(tmp_path / "sounds" / "train" / "tone" / "00004.wav")) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (SAMPLE_RATE, 9600, 2)
    assert np.load(tmp_path / "solids" / "test" / "ball" / "00000.npy").dtype == np.int16
    assert tool.main([str(tmp_path), *options, "--seed", "1"]) == 1
    assert "holds other data" in capsys.readouterr().err
