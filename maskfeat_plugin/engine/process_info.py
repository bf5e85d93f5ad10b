"""What the operating system says of a process: memory, child processes, open files (Linux, from ``/proc``)."""

import ctypes
import gc
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

import torch

MEGABYTE = 1 << 20


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


def peak_memory(run: Callable[[], object], device: torch.device) -> float | None:
    """Memory that a run needs at its peak, beyond what is there before it.

    Args:
        run (Callable[[], object]): What to run; it has been run before, so that what stays is there already.
        device (torch.device): A GPU, whose allocations are counted, or the CPU: resident memory of the process.

    Returns:
        float | None: Megabytes of 2**20 bytes; None where the system cannot tell, as without Linux's ``/proc``.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MEGABYTE
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps of earlier runs would hide this one
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
        before = _resident("VmRSS")
        run()
        return max(0.0, _resident("VmHWM") - before)
    except (OSError, AttributeError, TypeError):  # no malloc_trim, and Windows' for CDLL(None)
        return None


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}.")
    return int(found[1]) / 1024


def _folder(pid: int | None) -> Path:
    return Path("/proc", "self" if pid is None else str(pid))
