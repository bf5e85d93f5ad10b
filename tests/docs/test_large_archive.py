"""Tests of the page on large archives: its commands and its config, from the folder to features, on few files."""

import json
import re

import numpy as np
from doc_blocks import ROOT, code_blocks, commands, file_name, link_checkout, run_shell
from own_data import write_clips, write_videos

PAGE = ROOT / "docs" / "large_archive.md"
# Large values of the page -> small values for the test
SMALLER = {
    "/data/archive": "my_videos",
    "/fast/archive": "small_videos",
    "--workers 64": "--workers 2",
    "maskfeat_mvit-small.py": "maskfeat_mvit-tiny.py",
    "batch_size=8,  # files, of 4 clips each": "batch_size=2,",
    "num_workers=16": "num_workers=1",
    "num_workers=8": "num_workers=1",
    "batch_size=16": "batch_size=4",
    "clips_per_epoch=2_000_000": "clips_per_epoch=8",
    "clips_per_file=4": "clips_per_file=2",
    "max_epochs=30": "max_epochs=1",
    "k=(10, 20)": "k=(1, 2)",
    "num_classes=12": "num_classes=2",
    "/data/labelled": "my_clips",
    "votes.txt": "my_clips/train.txt",
    "queries.txt": "my_clips/val.txt",
    "tools/dist_train.sh my_archive.py 8 --amp": "python tools/train.py my_archive.py",
    "torchrun --standalone --nproc_per_node=8 tools/": "python tools/",
    " --launcher pytorch --device cuda --amp": "",
    "epoch_30.pth": "epoch_1.pth",
    "--every 10": "--every 1",
    "query.mp4": "my_videos/0.mp4",
}
# Commands that other tests run
NOT_RUN = ("my_actions.py", "estimate", "--resume")


def shrunk(text):
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def test_what_is_replaced_is_on_the_page():
    text = PAGE.read_text()
    assert [large for large in SMALLER if large not in text] == []


def test_the_page_from_the_folder_to_features(tmp_path):
    project = link_checkout(tmp_path / "project")
    rng = np.random.default_rng(0)
    write_videos(project / "my_videos", rng)
    write_clips(project / "my_clips", rng)
    printed = ""
    for block in code_blocks(PAGE):
        if block.language == "python" and file_name(block):
            (project / file_name(block)).write_text(shrunk(block.text))
        lines = [shrunk(command) for command in commands(block)] if block.language == "shell" else []
        for line in lines:
            if not any(word in line for word in NOT_RUN):
                printed += run_shell(line, project)
    (log,) = (project / "work_dirs" / "my_archive").glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses and np.isfinite(losses).all()
    assert [row for row in rows if "knn/top1_k2" in row]
    assert (project / "features.parquet").is_file()
    nearest = re.findall(r"^ ?[01]\.\d{4} .* (\S+)$", printed, re.MULTILINE)
    assert len(nearest) > 1 and nearest[0].endswith("my_videos/0.mp4")
