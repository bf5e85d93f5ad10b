"""Settings of a config that a run has written, without running it."""

import ast
from typing import Any


def read_settings(text: str) -> dict[str, Any]:
    """Evaluate a config that mmengine wrote: assignments of literals, ``dict(...)`` among them.

    Args:
        text (str): Source of ``vis_data/config.py``.

    Returns:
        dict[str, Any]: Its settings by name; those that are no literals are left out, all if it is no Python.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    settings = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                settings[node.targets[0].id] = _evaluate(node.value)
            except ValueError:
                continue
    return settings


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
