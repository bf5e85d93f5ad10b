"""The programs of ``tools`` as modules, for tests that call them in their own process."""

import importlib.util
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1] / "tools"


def load_tool(name, tools=TOOLS):
    """Run a tool's file as a new module at each call.

    Args:
        name: The name of the file below ``tools`` without ".py", such as "train" or "data/coco".
        tools: The folder of the tools, for example of another checkout.

    Returns:
        The module. Its ``main`` takes a list of arguments.
    """
    spec = importlib.util.spec_from_file_location(f"tool_{name.replace('/', '_')}", tools / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module
