"""Code blocks of a page, and functions that run them."""

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
    """Code block: its language ("" if none is given), its text, and the number of its first line in the page."""

    language: str
    text: str
    line: int


def code_blocks(page):
    """Return all blocks of a page in order."""
    text = page.read_text()
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def file_name(block):
    """Return the file name in the first-line comment of a Python block, or None if there is no such comment."""
    found = re.match(r"# (\w+\.py)\n", block.text)
    return found and found[1]


def commands(block):
    """Return the commands of a shell block. Continued lines are joined, comments and blank lines left out."""
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def link_checkout(folder):
    """Make a folder look like the root of a checkout, with links instead of copies."""
    folder.mkdir(parents=True)
    for name in ("configs", "docs", "maskfeat_plugin", "tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run_shell(text, folder, programs=None):
    """Run a block as it is written and return its output; every command has to succeed.

    Args:
        text: The block.
        folder: The working directory.
        programs: Folder of ``python`` and ``maskfeat`` of another environment. Defaults to this environment.
    """
    first = [programs] if programs else [warm_python.folder(), Path(sys.executable).parent]
    path = os.pathsep.join(map(str, (*first, os.environ["PATH"])))
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    if programs:
        environment.pop("PYTHONPATH", None)  # of the checkout
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
    """Return the first line of the expected output that the real output lacks, or None if all lines come in order.

    ``...`` stands for any text within a line, or for any lines if it is a line of its own.
    """
    lines = iter(output.splitlines())
    for line in filter(None, map(str.strip, expected.splitlines())):
        pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
        if line != "..." and not any(pattern.fullmatch(found.strip()) for found in lines):
            return line
    return None
