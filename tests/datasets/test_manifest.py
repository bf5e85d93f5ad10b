"""Manifests: complete, with file names of any bytes, and refused if damaged."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO, as_table, name_columns, read_manifest, write_manifest
from maskfeat_plugin.errors import ConfigError

NAMES = ["a.mp4", "Größe/東京.mp4", os.fsdecode(b"\xff\xfe.mp4"), "tab\t.mp4"]


def write(path, folder="/data"):
    rows = [dict(name_columns(name), kind=VIDEO, duration=float(i)) for i, name in enumerate(NAMES)]
    rows += [dict(name_columns("bad.mp4"), kind=VIDEO, problem="cut short"), dict(name_columns("b.jpg"), kind=IMAGE)]
    write_manifest(path, folder, [as_table(rows[:2]), as_table(rows[2:])])


def test_round_trip(tmp_path):
    write(tmp_path / "files.parquet")
    manifest = read_manifest(tmp_path / "files.parquet")
    videos = manifest.readable(VIDEO)
    assert (manifest.folder, len(manifest)) == ("/data", 6)
    assert videos.paths() == [os.path.join("/data", name) for name in NAMES]
    assert videos.paths("/moved")[0] == "/moved/a.mp4"
    assert videos.table["duration"].to_pylist() == [0.0, 1.0, 2.0, 3.0]
    assert manifest.readable(IMAGE).paths() == ["/data/b.jpg"]


def test_columns_are_read_alone(tmp_path):
    write(tmp_path / "files.parquet")
    assert read_manifest(tmp_path / "files.parquet", ("kind", "path")).table.column_names == ["path", "kind"]


def test_no_manifest_is_one_error(tmp_path):
    with pytest.raises(ConfigError, match="absent.parquet does not exist. Write it with maskfeat index."):
        read_manifest(tmp_path / "absent.parquet")
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(dict(path=["a"])), tmp_path / "other.parquet")
    with pytest.raises(ConfigError, match="other.parquet is no manifest, or is damaged .*it lacks path_bytes"):
        read_manifest(tmp_path / "other.parquet")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_manifest_is_one_error_or_the_same(tmp_path, data):
    path = tmp_path / "files.parquet"
    write(path)
    whole = read_manifest(path)
    content = bytearray(path.read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        found = read_manifest(path)
    except ConfigError as error:
        assert str(path) in str(error)
    else:
        assert len(found) == len(whole)
