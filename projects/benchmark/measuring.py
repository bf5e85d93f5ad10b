"""Time and memory of two that do the same job."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from maskfeat_plugin.engine.process_info import peak_memory


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


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
