"""Folders of the configs and the tools: in a checkout beside the packages, in a wheel inside ``maskfeat_plugin/.mim``.

All other modules take the two folders from here. Nothing heavy is imported, since every command imports this module.
"""

from __future__ import annotations

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
    """Return the root of the checkout that contains the packages, or None for an installed wheel."""
    return None if _INSTALLED.is_dir() else _PACKAGES
