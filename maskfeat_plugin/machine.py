"""Cores and memory of the machine, on any operating system."""

import math
import os


def usable_cores() -> int:
    """Return the number of processor cores that this process may use. If the system does not say, return all cores."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_memory() -> float:
    """Return the machine's memory in bytes. If the system does not say (Windows), return infinity."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
