"""Versions of the packages and name of the processor, for the log of a training."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from maskfeat_plugin.machine import usable_cores

_PACKAGES = (
    "maskfeat_plugin",
    "torch",
    "mmengine",
    "mmcv",
    "mmpretrain",
    "mmaction2",
    "mmdet",
    "mmsegmentation",
    "numpy",
)
VERSIONS, MACHINE = "Versions: ", "Machine: "


def describe_versions() -> str:
    """Return the installed versions of the packages used in training, as one line for :func:`parse_versions`."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return VERSIONS + ", ".join(found)


def parse_versions(line: str) -> dict[str, str]:
    """Read the versions by package from a line of :func:`describe_versions`."""
    return dict(item.split(" ", 1) for item in line.removeprefix(VERSIONS).split(", ") if " " in item)


def describe_cpu() -> str:
    """Return the processor and the number of usable cores, in one line that begins with ``MACHINE``."""
    return f"{MACHINE}{processor_name()}, {usable_cores()} cores"


def processor_name() -> str:
    """Return the name of the processor on Linux; on other systems, its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else f"{platform.machine()} CPU"
