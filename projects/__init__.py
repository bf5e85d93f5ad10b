"""The demo, the studies, the benchmarks and the documentation: only a checkout needs them, no wheel carries them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a program that imports ``projects``, which is no installed package.

    Args:
        **changes (str): Variables that are set.

    Returns:
        dict[str, str]: That of this process with the root of the checkout among the folders of Python's modules.
    """
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changes}
