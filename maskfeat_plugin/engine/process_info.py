"""What the operating system says of a process: memory, child processes, open files (Linux, from ``/proc``)."""

import mmap
import os
from pathlib import Path


def resident_memory(pid: int | None = None) -> int:
    """Physical memory that a process holds, in bytes, shared pages included.

    Args:
        pid (int, optional): The process. Defaults to None: this one.

    Returns:
        int: 0 for a process that is gone, and where there is no ``/proc``.
    """
    try:
        return int(_folder(pid).joinpath("statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def child_processes(pid: int | None = None) -> list[int]:
    """Ids of the processes that a process started and that are still there, workers of dataloaders among them.

    The list is empty where there is no ``/proc``.

    Args:
        pid (int, optional): The process. Defaults to None: this one.
    """
    children = []
    for thread in _folder(pid).glob("task/*/children"):
        try:
            children += [int(child) for child in thread.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return sorted(children)


def open_files(pid: int | None = None) -> int:
    """Number of file handles that a process holds: files, pipes, sockets.

    Args:
        pid (int, optional): The process. Defaults to None: this one.
    """
    return len(os.listdir(_folder(pid) / "fd"))


def _folder(pid: int | None) -> Path:
    return Path("/proc", "self" if pid is None else str(pid))
