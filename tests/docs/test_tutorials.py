"""Tests of the tutorials from top to bottom: every file is written, every command is run, its output is compared."""

import json
import math
import re
import shutil

import pytest
from doc_blocks import ROOT, code_blocks, commands, file_name, link_checkout, missing_line, run_shell
from own_data import write_own_data

# test_journeys.py runs the other page, with the wheel
TUTORIALS = sorted(path for path in (ROOT / "docs" / "tutorials").glob("*.md") if path.stem != "one_encoder")


@pytest.fixture(scope="module")
def own_data(tmp_path_factory):
    """Data of an imaginary user."""
    folder = tmp_path_factory.mktemp("own")
    write_own_data(folder)
    return folder


@pytest.fixture
def project(own_data, tmp_path):
    """Root of a checkout with the user's data."""
    folder = link_checkout(tmp_path / "project")
    shutil.copytree(own_data, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial(page, project):
    output = None  # output of the previous shell block
    for block in code_blocks(page):
        where = f"{page.name}, line {block.line}"
        if block.language == "python":
            name = file_name(block)
            assert name, f"{where}: the first line has to name the file, # my_file.py"
            (project / name).write_text(block.text)
        elif block.language == "shell":
            output = run_shell(block.text, project)
            for config in re.findall(r"tools/train\.py (\w+)\.py", block.text):
                check_loss(project / "work_dirs" / config, where)
        else:
            assert not block.language and output is not None, f"{where}: neither a file, nor a command, nor its output"
            missing = missing_line(block.text, output)
            assert missing is None, f"{where}: {missing!r} is not what is printed:\n{output[-4000:]}"
            output = None


def check_loss(work_dir, where):
    """Check that the logged loss of a training is finite and has decreased."""
    (log,) = work_dir.glob("*/vis_data/scalars.json")
    losses = [row["loss"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert len(losses) > 1 and all(map(math.isfinite, losses)), f"{where}: {losses}"
    assert losses[-1] < losses[0], f"{where}: {losses}"


def test_own_videos_take_five_commands():
    page = next(page for page in TUTORIALS if page.stem == "pretrain_videos")
    run = [command for block in code_blocks(page) if block.language == "shell" for command in commands(block)]
    assert "`make setup`" in page.read_text()
    assert 1 + len(run) == 5


def test_a_line_that_is_not_printed_is_noticed():
    output = "first\nloss: 0.5  baseline: 0.6\nlast\n"
    assert missing_line("first\n...\nloss: ...  baseline: ...\nlast\n", output) is None
    assert missing_line("last\nfirst\n", output) == "first"
    assert missing_line("loss: ...\nbaseline", output) == "baseline"
