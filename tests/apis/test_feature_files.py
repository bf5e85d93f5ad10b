"""Tests of damaged files of features: reading raises an error that names the file, or gives the same features."""

import os
import random

import numpy as np
import pytest

from maskfeat_plugin.apis.features.files import FeatureTable, read_features, write_features
from maskfeat_plugin.errors import ConfigError

NAMES = ("noel.jpg", "ü b.jpg", *(f"{i:04d}.jpg" for i in range(38)))
FEATURES = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
TABLE = FeatureTable(NAMES, np.arange(40) % 5 - 1, FEATURES)
HALVES = FEATURES.astype(np.float16)
TIMES = np.stack([np.arange(40) / 3, np.arange(40) / 3 + 2], axis=1)
TIMED = FeatureTable(NAMES, TABLE.labels, HALVES, TIMES, dict(config="a.py", checkpoint="0123"))


def is_whole(found, table=TABLE):
    same = list(found.names) == list(NAMES) and np.array_equal(found.labels, table.labels)
    same &= found.features.dtype == table.features.dtype and np.array_equal(found.features, table.features)
    timed = found.times is None if table.times is None else np.array_equal(found.times, table.times)
    return same and timed and found.origin == table.origin


def written(folder, ending, table=TABLE):
    path = folder / f"features.{ending}"
    write_features(path, [table.take(np.arange(i, min(i + 16, 40))) for i in (0, 16, 32)], 40)
    assert is_whole(read_features(path), table)
    return path, path.read_bytes()


def fuzz(folder, ending, cases, table=TABLE):
    """Read damaged files, and return the number of refused files. Much of an lmdb file is unused: keep zero bytes."""
    path, content = written(folder, ending, table)
    used = [i for i, value in enumerate(content) if value] if ending == "lmdb" else range(len(content))
    rng, refused = random.Random(ending), 0
    for case in range(cases):
        harmed = bytearray(content)
        if case % 4 == 3:
            del harmed[rng.randrange(len(harmed)) :]
        else:
            harmed[rng.choice(used)] ^= 1 << rng.randrange(8)
        path.write_bytes(harmed)
        try:
            assert is_whole(read_features(path), table), case
        except ConfigError as error:
            assert str(path) in str(error)
            refused += 1
    return refused


@pytest.mark.parametrize("table", [TABLE, TIMED], ids=["whole files", "windows"])
@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_damaged_files(ending, table, tmp_path):
    assert fuzz(tmp_path, ending, 12 if ending == "lmdb" else 60, table) > 2


@pytest.mark.long
@pytest.mark.parametrize("table", [TABLE, TIMED], ids=["whole files", "windows"])
@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
def test_many_damaged_files(ending, table, tmp_path):
    assert fuzz(tmp_path, ending, 2000, table) > 500


@pytest.mark.parametrize("ending", ["npz", "parquet", "lmdb"])
@pytest.mark.parametrize("content", [b"", b"<html>", os.urandom(5000)], ids=["empty", "page", "noise"])
def test_other_files(ending, content, tmp_path):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"x\.{ending} is no file of features, or is damaged"):
        read_features(path)


def test_a_pickle_is_not_run(tmp_path):
    np.savez(tmp_path / "x.npz", names=np.array([print], object), features=np.zeros((1, 2)))
    with pytest.raises(ConfigError, match="allow_pickle"):
        read_features(tmp_path / "x.npz")
