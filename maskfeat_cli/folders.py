"""Folders of the configs and the tools: in a checkout beside the packages, in a wheel inside ``maskfeat_plugin/.mim``.

No other module derives them from its own place. Nothing heavy is imported here, since the command starts with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGES = Path(__file__).absolute().parents[1]
_INSTALLED = _PACKAGES / "maskfeat_plugin" / ".mim"  # the place where OpenMMLab's tools look


def configs_folder() -> Path:
    """Return the folder of the configs."""
    return (checkout() or _INSTALLED) / "configs"


def tools_folder() -> Path:
    """Return the folder of the tools."""
    return (checkout() or _INSTALLED) / "tools"


def checkout() -> Path | None:
    """Return the root of the checkout that the packages are in, None in a wheel."""
    return None if _INSTALLED.is_dir() else _PACKAGES


def refuse_without_checkout() -> int:
    """Say in one line that this program runs in a checkout alone.

    Returns:
        int: The exit status, 2, as for a command that does not exist.
    """
    # "maskfeat bench", or the file of a tool
    print(f"error: {Path(sys.argv[0]).name}: {no_checkout()}", file=sys.stderr)
    return 2


def no_checkout() -> str:
    """Return the message of a program that an installed wheel cannot run."""
    return (
        f"it belongs to a checkout of the repository, but {_PACKAGES} holds an installed wheel. "
        "Run it in a checkout, after pip install -e . there."
    )
