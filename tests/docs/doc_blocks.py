"""The code blocks of a page, and how they are run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import warm_python

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its language, "" if it has none, its text, and the line of the page where it begins."""

    language: str
    text: str
    line: int


def code_blocks(page):
    """All blocks of a page in their order."""
    text = page.read_text()
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def file_name(block):
    """The file that a Python block is, by the comment in its first line; None for one that names none."""
    found = re.match(r"# (\w+\.py)\n", block.text)
    return found and found[1]


def commands(block):
    """The commands of a shell block, lines that end in a backslash joined; comments and blank lines left out."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def link_checkout(folder):
    """Make a folder look like the root of a checkout, without copying it."""
    folder.mkdir(parents=True)
    for name in ("configs", "docs", "maskfeat_plugin", "tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_shell(text, folder):
    """Run a block as it is written; its output, if every command succeeds."""
    path = os.pathsep.join((str(warm_python.folder()), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-4000:]}"
    return done.stdout


def missing_line(expected, output):
    """The first line of an expected output that does not come, in its place; None if all do.

    ``...`` stands for anything, in a line or as a line of its own.
    """
    lines = iter(output.splitlines())
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        if line != "..." and not any(pattern.fullmatch(found.strip()) for found in lines):
            return line
    return None
