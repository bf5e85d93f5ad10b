"""Settings of a config that a run has written, without running it."""

import ast
import warnings
from pathlib import Path
from typing import Any

from .damage import left_out


def read_settings(text: str, path: Path = Path("config.py")) -> dict[str, Any]:
    """Evaluate a config that mmengine wrote: assignments of literals, ``dict(...)`` among them.

    Args:
        text (str): Source of ``vis_data/config.py``.
        path (Path): Its file, for the log. Defaults to "config.py".

    Returns:
        dict[str, Any]: Its settings by name; those that are no literals are left out, all if it is no Python, and the
        log then names the file.
    """
    settings: dict[str, Any] = {}
    with left_out(path, "is no config that can be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # escapes in a text
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    settings[node.targets[0].id] = _evaluate(node.value)
                except (ValueError, TypeError, RecursionError):  # the second is of a list as a key
                    continue
    return settings


def section_of(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section of the settings, empty if it is missing or no dict."""
    section = settings.get(name)
    return section if isinstance(section, dict) else {}


def _evaluate(node: ast.expr) -> Any:
    """The value of a literal.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {item.arg: _evaluate(item.value) for item in node.keywords if item.arg is not None}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_evaluate(key): _evaluate(value) for key, value in pairs if key is not None}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_evaluate(item) for item in node.elts]
    return ast.literal_eval(node)
