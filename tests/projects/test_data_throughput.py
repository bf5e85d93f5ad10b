"""Tests of the benchmark of data: both sides of its row read the same, and the command prints whole tables."""

import re

import pytest
import torch

from projects.benchmark.data_throughput import Loading, Reader, format_loading, format_readers, shard_comparison
from tools.benchmark import main


def test_shards_and_files_give_the_same_images(tmp_path):
    comparison = shard_comparison(tmp_path)
    ours, theirs = comparison.ours(), comparison.theirs()
    assert len(ours) == 64 and all(map(torch.equal, ours, theirs))


def test_tables():
    assert format_loading([Loading("clips", 71.26, 0.957)]).endswith("| clips | 71.3 | 96% |")
    assert format_readers([Reader("a", 1.26, 2)]).endswith("| a | 1.3 | 2.0 |")
    absent = Reader("b", float("nan"), float("nan"), "b is not installed.")
    assert format_readers([Reader("a", 1.26, 2), absent]).endswith("2.0 |\n\nb: not measured. b is not installed.")


@pytest.mark.long
def test_the_command_prints_all_rows(capsys, monkeypatch):
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "MASKFEAT_SHARDS",
    ):
        monkeypatch.setenv(name, "")
    threads = torch.get_num_threads()
    try:
        assert main(["--data", "--clips", "1", "--images", "2"]) == 0
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    for kind in ("clips", "images"):
        for source in ("files", "files in S3", "tar shards", "tar shards in S3", "tar shards in S3, local copies"):
            for workers in (1, 2, 4):
                found = re.search(rf"^\| {kind} \| {source} \| {workers} \| ([\d.]+) \| ([\d.]+) \|$", said, re.M)
                assert found and float(found[1]) > 0 and float(found[2]) > 0
        assert re.search(rf"^\| {kind} \| [\d.]+ \| \d+% \|$", said, re.M)
    assert "| maskfeat.OpenVideo and DecodeClip | " in said and "| PyAV, its own threads | " in said
    assert "torchcodec, 1 thread" in said
