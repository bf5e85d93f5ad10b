"""Time and memory of two that do the same job."""

import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Comparison:
    """One job done by two.

    Args:
        job (str): What is done.
        peer (str): Who else does it.
        ours (Callable[[], object]): Does it by the plugin.
        theirs (Callable[[], object]): Does it by the peer.
    """

    job: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


@dataclass(frozen=True)
class Measurement:
    """What a comparison came to.

    Args:
        job (str): What was done.
        peer (str): Who else did it.
        ours (float): Seconds of the plugin, the median.
        theirs (float): Seconds of the peer, the median.
        ours_memory (float, optional): Megabytes that the plugin needed at its peak beyond what was there before, None
            where the system does not tell.
        theirs_memory (float, optional): The same of the peer.
    """

    job: str
    peer: str
    ours: float
    theirs: float
    ours_memory: float | None = None
    theirs_memory: float | None = None


def measure(comparison: Comparison, repeats: int, device: torch.device) -> Measurement:
    """Median times of both, measured in turn, so that a busy machine slows both, then the memory of each.

    Args:
        comparison (Comparison): What to time.
        repeats (int): Runs of each, after one to warm up.
        device (torch.device): Where it runs; a GPU is waited for.

    Returns:
        Measurement: Of both.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        for kept, run in zip(times, (comparison.ours, comparison.theirs), strict=True):
            seconds = seconds_of(run, device)
            if i:
                kept.append(seconds)
    memory = [peak_memory(run, device) for run in (comparison.ours, comparison.theirs)]
    return Measurement(comparison.job, comparison.peer, *map(statistics.median, times), *memory)


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one run.

    Args:
        run (Callable[[], object]): What to time.
        device (torch.device): Where it runs; a GPU is waited for.

    Returns:
        float: Seconds.
    """
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


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
    except (OSError, AttributeError, TypeError):  # the last is Windows' for CDLL(None)
        return None


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) / 1024


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
