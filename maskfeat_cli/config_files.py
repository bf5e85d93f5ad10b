"""Config files of the package: their names, their first lines, and copies that work in any folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .folders import configs_folder

PREFIX = "maskfeat_plugin::"
"""Prefix of a path relative to the folder of the configs, as in ``_base_ = "maskfeat_plugin::demo/..."``."""


def described_configs() -> dict[str, dict[str, str]]:
    """Return every config that can be trained.

    Returns:
        dict[str, dict[str, str]]: Folder -> name of the config -> first sentence of its docstring.
    """
    root = configs_folder()
    found: dict[str, dict[str, str]] = {}
    for path in sorted(root.rglob("*.py")):
        folder = path.relative_to(root).parts[0]
        title = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if folder != "_base_" and not title.startswith("Old name of"):
            found.setdefault(folder, {})[path.stem] = title
    return found


def config_path(reference: str) -> Path:
    """Return the file of a reference such as ``maskfeat_plugin::demo/maskfeat_vit-tiny_moving-digits.py``.

    Args:
        reference (str): The reference; ``.py`` may be left out.
    """
    path = configs_folder() / reference.removeprefix(PREFIX)
    return path if path.suffix == ".py" else path.with_name(f"{path.name}.py")


def copy_of(path: Path) -> str:
    """Return the text of a config, with paths of ``_base_`` files and files beside it that work in any folder.

    Args:
        path (Path): A config of the package.
    """
    root = configs_folder().resolve()

    def refer(match: re.Match) -> str:
        base = (path.parent / match[2]).resolve().relative_to(root).as_posix()
        return f"{match[1]}{PREFIX}{base}{match[1]}"

    tree = ast.parse(text := path.read_text(encoding="utf-8"))
    lines = text.splitlines(keepends=True)
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_":
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = re.sub(r"""(["'])(\.{1,2}/[^"']+\.py)\1""", refer, lines[number])
    return "".join(lines).replace("{{ fileDirname }}", path.parent.as_posix())
