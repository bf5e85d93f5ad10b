"""Reader of the settings in a config that a run has written. The config is not executed."""

import ast
import warnings
from pathlib import Path
from typing import Any

from .damage import left_out


def read_settings(text: str, path: Path = Path("config.py")) -> dict[str, Any]:
    """Evaluate a config that mmengine has written: assignments of literals, including ``dict(...)``.

    Args:
        text (str): Source of ``vis_data/config.py``.
        path (Path): Path of the file, for the log. Defaults to "config.py".

    Returns:
        dict[str, Any]: Settings by name, without settings that are not literals. If the text is not Python, the result
        is empty and the log names the file.
    """
    settings: dict[str, Any] = {}
    with left_out(path, "is no config that can be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in strings
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    settings[node.targets[0].id] = _evaluate(node.value)
                except (ValueError, TypeError, RecursionError):  # a list as a key raises TypeError
                    continue
    return settings


def section_of(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section of the settings; an empty dict if it is missing or not a dict."""
    section = settings.get(name)
    return section if isinstance(section, dict) else {}


def _evaluate(node: ast.expr) -> Any:
    """Evaluate a literal.

    Raises:
        ValueError: If the node is not a literal.
    """
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {item.arg: _evaluate(item.value) for item in node.keywords if item.arg is not None}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_evaluate(key): _evaluate(value) for key, value in pairs if key is not None}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_evaluate(item) for item in node.elts]
    return ast.literal_eval(node)
