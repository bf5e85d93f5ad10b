"""``maskfeat deduplicate``: the groups equal a comparison of all pairs, and the best file of each group is kept."""

import csv

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_modules import load_tool

from maskfeat_plugin.datasets.manifest import (
    IMAGE,
    VIDEO,
    Manifest,
    as_table,
    name_columns,
    read_manifest,
    write_manifest,
)
from maskfeat_plugin.preparation.near_duplicates import count_bits, find_redundancy, group_near


def brute_force(hashes, motions, seconds, bits):
    """Group all pairs that are near each other, by the smallest member."""
    groups = list(range(len(hashes)))
    for i in range(len(hashes)):
        for j in range(i):
            near = (int(hashes[i]) ^ int(hashes[j])).bit_count() <= bits
            if near and abs(motions[i] - motions[j]) <= 0.003 and abs(seconds[i] - seconds[j]) <= 1:
                old, new = max(groups[i], groups[j]), min(groups[i], groups[j])
                groups = [new if group == old else group for group in groups]
    return groups


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), bits=st.sampled_from([0, 1, 3, 4, 6, 7, 8, 11]))
def test_groups_are_those_of_all_pairs(seed, bits):
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 2**64, 6, dtype=np.uint64)
    hashes = rng.choice(seeds, 60)
    for i in range(60):  # mostly near their seed: just inside and just outside of the limit
        for bit in rng.choice(64, rng.integers(0, bits + 2), replace=False):
            hashes[i] ^= np.uint64(1) << np.uint64(bit)
    motions = rng.choice([0.0, 0.1, 0.1029, 0.1031, 1.0], 60)
    seconds = rng.choice([10.0, 11.0, 11.5, 60.0], 60)
    found = group_near(hashes, motions, seconds, bits)
    assert set(found) == set(range(found.max() + 1))
    names = {}
    assert [names.setdefault(group, i) for i, group in enumerate(found)] == brute_force(hashes, motions, seconds, bits)


def test_counts_of_bits():
    values = np.array([0, 1, 2**64 - 1, 0b1011 << 40], np.uint64)
    assert count_bits(values).tolist() == [0, 1, 64, 3]


def row(name, hash_=0, width=100, duration=10.0, motion=0.1, kind=VIDEO, **other):
    video = dict(duration=duration, motion=motion) if kind == VIDEO else {}
    return dict(name_columns(name), kind=kind, hash=hash_, width=width, height=100, **video, **other)


ROWS = [
    row("a.mp4", 0b0011),
    row("b.mp4", 0b0111, width=200),  # the largest
    row("c.mp4", 0b0001, duration=10.5),
    row("clip_of_camera.mp4", 0b0011, motion=0.2),  # another time at the same wall
    row("first.jpg", 0b0011, kind=IMAGE),
    row("longer.mp4", 0b0011, duration=60.0),
    row("second.jpg", 0b0011, kind=IMAGE),
    row("still.mp4", 0b0011, motion=0.0005),
    row("unlike.mp4", 2**64 - 1),
    dict(name_columns("bad.mp4"), kind=VIDEO, problem="cut short"),
]


def test_the_best_of_each_group_stays(tmp_path):
    found = find_redundancy(Manifest("/data", as_table(ROWS)))
    names = [entry["path"] for entry in ROWS]
    kept = {name: names[number] for name, number in zip(names, found.kept, strict=True) if name != names[number]}
    assert kept == {"a.mp4": "b.mp4", "c.mp4": "b.mp4", "second.jpg": "first.jpg"}
    assert [name for name, static in zip(names, found.is_static, strict=True) if static] == ["still.mp4"]
    left = found.reduced().table["path"].to_pylist()
    assert left == [name for name in names if name not in {*kept, "still.mp4"}]  # bad files do not change
    assert not find_redundancy(Manifest("/data", as_table(ROWS)), motion=0).is_static.any()
    assert len(find_redundancy(Manifest("/data", as_table([]))).kept) == 0


def test_the_command(tmp_path, capsys):
    manifest, out, report = (str(tmp_path / name) for name in ("files.parquet", "fewer.parquet", "report.csv"))
    write_manifest(manifest, "/data", [as_table(ROWS)])
    main = load_tool("deduplicate_archive").main
    assert main([manifest, "--report", report, "--out", out]) == 0
    text = capsys.readouterr().out
    assert text.startswith("9 files can be read: 1 static videos, 3 near-duplicates of 2 others; 5 are left\n")
    assert "  still.mp4: static (motion 0.0005)\n" in text and "  c.mp4: near-duplicate of b.mp4 (2 bits)\n" in text
    assert len(read_manifest(out)) == 6 and read_manifest(out).folder == "/data"
    with open(report, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(entry["path"], entry["reason"], entry["kept"], entry["bits"]) for entry in rows] == [
        ("still.mp4", "static", "", ""),
        ("a.mp4", "near-duplicate", "b.mp4", "1"),
        ("c.mp4", "near-duplicate", "b.mp4", "2"),
        ("second.jpg", "near-duplicate", "first.jpg", "0"),
    ]
    assert main([manifest, "--out", manifest]) == 1 and main([manifest, "--bits", "12"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "Give another name" in errors[0] and "Give 0 to 11" in errors[1]


def test_many_files_take_seconds():
    """There are 200,000 files. A comparison of all pairs would take an hour."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 200_000, dtype=np.uint64)
    hashes[100_000:101_000] = hashes[:1000] ^ np.uint64(0b10001)
    motions, seconds = np.full(200_000, 0.1), np.full(200_000, 10.0)
    groups = group_near(hashes, motions, seconds, bits=4)
    assert groups.max() + 1 == 199_000 and (groups[100_000:101_000] == groups[:1000]).all()
