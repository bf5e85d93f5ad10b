"""Tests of the commands in README.md, docs/ and the help of the tools.

Each option must be an option of the tool. Each config must exist and accept the settings. The commands on MovingDigits
are run for two steps, in the order of their page.
"""

import argparse
import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from doc_blocks import ROOT, code_blocks, commands, link_checkout
from tool_modules import load_tool

from maskfeat_cli import COMMANDS
from maskfeat_plugin.apis import load_config

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOOLS = sorted(path for path in (ROOT / "tools").rglob("*.py") if "EXAMPLE" in path.read_text())
# Launcher -> the number of its own arguments before the config, and the position of the number of processes
LAUNCHERS = {"dist_train.sh": (0, 1), "dist_test.sh": (0, 2), "slurm_train.sh": (2, None), "slurm_test.sh": (2, None)}
SHELL = ("shell", "bash")
SHORT = ["train_cfg.max_iters=2", "default_hooks.checkpoint.interval=2", "train_dataloader.batch_size=4"]
SHORT += ["param_scheduler.0.end=1", "param_scheduler.1.begin=1"]
RUNNABLE = ("train.py", "test.py", "knn.py", "export_model.py")
# Pages whose commands need files from elsewhere: their commands are parsed, not run
NOT_RUN = {"scaling.md", "tutorials"}


class Command(NamedTuple):
    """Command of a page: the tool's file, its arguments, and its place in the page."""

    page: str
    tool: Path
    arguments: tuple[str, ...]

    def __str__(self):
        return f"{self.page}: {self.tool.relative_to(ROOT)} {' '.join(self.arguments)}"


def read_command(page, line):
    """Return the call of a tool in a line, or None if there is no call."""
    line = re.sub(r"\[(-[^]]*)\]", r"\1", line)  # brackets of a synopsis: optional arguments, and alternatives
    line = re.sub(r"\{(\w+),[^}]*\}", r"\1", line)
    words = shlex.split(line, comments=True)
    if words[:1] == ["maskfeat"] and words[1:] and not words[1].startswith("-"):
        tool = COMMANDS[words[1]].tool
        words = [f"tools/{tool}", *words[2:]] if tool else []
    for i, word in enumerate(words):
        name = word.removeprefix("./")
        if not re.fullmatch(r"tools/[\w/]+\.(py|sh)", name) or name.startswith("tools/setup/"):
            continue
        rest = words[i + 1 :]
        stop = next((k for k, text in enumerate(rest) if text in ("|", "&&", ";", ">", "||")), len(rest))
        return None if "..." in rest else launched(page, name, rest[:stop])
    return None


def launched(page, name, arguments):
    """Convert the call of a launcher to a call of the tool that it starts."""
    path = ROOT / name
    if path.name in LAUNCHERS:
        before, processes = LAUNCHERS[path.name]
        arguments = [text for k, text in enumerate(arguments) if k >= before and k != processes]
        path = path.with_name(re.sub(r".*_(\w+)\.sh", r"\1.py", path.name))
    return Command(page, path, tuple(arguments))


def documented():
    """Return every call of a tool in the blocks and the text of the pages, and in the help of the tools."""
    found = []
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for block in code_blocks(page):
            if block.language in SHELL:
                found += [read_command(name, line) for line in commands(block)]
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found += [read_command(name, line) for line in re.findall(r"`((?:python tools/|maskfeat )[^`\n]+)`", text)]
    for tool in TOOLS:
        lines = re.sub(r"\\\\\n\s*", "", tool.read_text())
        # two spaces separate a command from its explanation
        examples = re.findall(r"^  (python tools/.+?)(?:\"\"\"|  .*)?$", lines, re.MULTILINE)
        found += [read_command(tool.name, line) for line in examples]
    return list(dict.fromkeys(command for command in found if command))


CALLS = documented()
TO_RUN = {}
for command in CALLS:
    on_digits = any("moving-digits" in text for text in command.arguments)
    if command.tool.name in RUNNABLE and on_digits and command.page.endswith(".md"):
        if not NOT_RUN & set(Path(command.page).parts):
            TO_RUN.setdefault(command.page, []).append(command)


class Parsed(Exception):
    """Exception that a tool raises instead of doing its work, once its arguments are parsed."""


def load_main(tool):
    """Import the function ``main`` of a tool from its path."""
    return load_tool(str(tool.relative_to(ROOT / "tools").with_suffix(""))).main


def parse(command, monkeypatch):
    """Parse the arguments with the tool's own parser."""
    read = argparse.ArgumentParser.parse_args

    def read_and_stop(self, *args, **kwargs):
        raise Parsed(read(self, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read_and_stop)
    with pytest.raises(Parsed) as found:
        load_main(command.tool)(list(command.arguments))
    return found.value.args[0]


def saved_by_the_page(command):
    """Return the files that a page asks its reader to write."""
    page = ROOT / command.page
    return set(re.findall(r"`([\w/]+\.py)`|^# (\w+\.py)$", page.read_text(), re.MULTILINE)) if page.is_file() else set()


@pytest.mark.parametrize("command", CALLS, ids=str)
def test_options_and_configs_are_there(command, monkeypatch):
    args = parse(command, monkeypatch)
    saved = {name for names in saved_by_the_page(command) for name in names}
    for path in (text for text in command.arguments if re.match(r"configs/.*\.py$", text)):
        assert any(ROOT.glob(path)) or path in saved, path
    config = None if getattr(args, "run", None) else getattr(args, "config", None)  # a folder with --from
    if config and ((ROOT / config).is_file() or re.fullmatch(r"[a-z][\w-]+", config)):  # a file, or a name
        monkeypatch.chdir(ROOT)
        load_config(config, options=getattr(args, "cfg_options", None))


@pytest.mark.parametrize("page", TO_RUN)
def test_commands_on_moving_digits(page, digits, tmp_path, monkeypatch):
    project = link_checkout(tmp_path / "project")
    (project / "data").symlink_to(digits / "data")
    monkeypatch.chdir(project)
    for command in TO_RUN[page]:
        arguments = list(command.arguments)
        steps = load_config(arguments[0]).get("train_cfg", {}).get("max_iters")
        shortened = command.tool.name == "train.py" and steps is not None  # epochs with so few samples are short
        if shortened:
            arguments += SHORT if "--cfg-options" in arguments else ["--cfg-options", *SHORT]
        assert load_main(command.tool)(arguments) == 0, command
        if shortened:
            keep_as_trained(arguments, steps)
    if page == "docs/export.md":
        for block in code_blocks(ROOT / page):
            if block.language == "python":
                scope = {}
                exec(compile(block.text, page, "exec"), scope)
                assert abs(scope["scores"].sum(1) - 1).max() < 1e-4


def keep_as_trained(arguments, steps):
    """Rename the checkpoint after two steps to the name of the whole training's checkpoint."""
    given = arguments[arguments.index("--work-dir") + 1] if "--work-dir" in arguments else None
    folder = Path(given or f"work_dirs/{Path(arguments[0]).stem}")
    shutil.copy(folder / "iter_2.pth", folder / f"iter_{steps}.pth")


def test_what_is_run():
    """Check that all pages are run whose commands take only seconds."""
    assert {"docs/knn.md", "docs/export.md"} <= set(TO_RUN)
    assert {"docs/quick_start.md", "docs/targets.md", "docs/mixing.md", "docs/masks.md"} <= set(TO_RUN)
    assert len(CALLS) > 60
