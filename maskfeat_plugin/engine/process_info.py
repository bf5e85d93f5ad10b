"""Functions that read the memory, child processes and open files of a process from ``/proc`` (Linux only)."""

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
    """Return the physical memory of a process in bytes, including shared pages.

    Args:
        pid (int, optional): The process. Defaults to None: this process.

    Returns:
        int: The memory; 0 if the process has ended or there is no ``/proc``.
    """
    try:
        return int(_folder(pid).joinpath("statm").read_text().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def child_processes(pid: int | None = None) -> list[int]:
    """Return the ids of the running child processes of a process, including dataloader workers.

    The list is empty if there is no ``/proc``.

    Args:
        pid (int, optional): The process. Defaults to None: this process.
    """
    children = []
    for thread in _folder(pid).glob("task/*/children"):
        try:
            children += [int(child) for child in thread.read_text().split()]
        except OSError:  # the thread has ended
            continue
    return sorted(children)


def open_files(pid: int | None = None) -> int:
    """Return the number of open file handles of a process: files, pipes, sockets.

    Args:
        pid (int, optional): The process. Defaults to None: this process.
    """
    return len(os.listdir(_folder(pid) / "fd"))


def peak_memory(run: Callable[[], object], device: torch.device) -> float | None:
    """Measure the peak memory of a function call, beyond the memory in use before it.

    Args:
        run (Callable[[], object]): The function. Run it once before, so that memory which it keeps is not counted.
        device (torch.device): A GPU, to measure its allocations, or the CPU, to measure the resident memory of this
            process.

    Returns:
        float | None: Megabytes of 2**20 bytes; None if the system does not tell, for example without Linux's ``/proc``.
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
        ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator keeps from earlier runs would hide this run's
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _resident("VmRSS")
        run()
        return max(0.0, _resident("VmHWM") - before)
    except (OSError, AttributeError, TypeError):  # no malloc_trim; on Windows, CDLL(None) raises TypeError
        return None


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    if found is None:
        raise OSError(f"/proc/self/status has no {field}.")
    return int(found[1]) / 1024


def _folder(pid: int | None) -> Path:
    return Path("/proc", "self" if pid is None else str(pid))
