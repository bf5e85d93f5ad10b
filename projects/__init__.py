"""Demo, studies, benchmarks and documentation. They exist only in a checkout, not in a wheel."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(**changes: str) -> dict[str, str]:
    """Return environment variables for a program that imports ``projects``, which is not an installed package.

    Args:
        **changes (str): Further variables to set.

    Returns:
        dict[str, str]: The variables of this process, with the root of the checkout in ``PYTHONPATH``.
    """
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **changes}
