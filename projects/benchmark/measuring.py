"""Measurement of time and memory of two functions that do the same job."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from maskfeat_plugin.engine.process_info import peak_memory

Work = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Two functions that do the same job. They are built when one of them is first called.

    Args:
        job (str): Name of the job.
        peer (str): Name of the package to compare with.
        build (Callable[[], tuple[Work, Work]]): Builds models and inputs. Returns the function that does the job with
            the plugin, and the function that does it with the peer.
        missing (str): Reason why the job cannot be done here. Defaults to "": it can be done.
    """

    job: str
    peer: str
    build: Callable[[], tuple[Work, Work]]
    missing: str = ""

    @cached_property
    def _sides(self) -> tuple[Work, Work]:
        return self.build()

    def ours(self) -> object:
        """Do the job with the plugin."""
        return self._sides[0]()

    def theirs(self) -> object:
        """Do the job with the peer."""
        return self._sides[1]()


@dataclass(frozen=True)
class Measurement:
    """Result of a comparison.

    Args:
        job (str): Name of the job.
        peer (str): Name of the package to compare with.
        ours (float): Median seconds of the plugin.
        theirs (float): Median seconds of the peer.
        ours_memory (float, optional): Peak megabytes of the plugin, beyond the memory in use before. None if the
            system does not report it.
        theirs_memory (float, optional): The same for the peer.
    """

    job: str
    peer: str
    ours: float
    theirs: float
    ours_memory: float | None = None
    theirs_memory: float | None = None


def measure(comparison: Comparison, repeats: int, device: torch.device) -> Measurement:
    """Measure the median times of both functions, then the memory of each.

    The two run in turns, so that a busy machine slows both.

    Args:
        comparison (Comparison): The two functions.
        repeats (int): Runs of each function, after one run to warm up.
        device (torch.device): Device of the work. A GPU is synchronised before and after each run.

    Returns:
        Measurement: Times and memory of both.
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
    """Measure the wall time of one run.

    Args:
        run (Callable[[], object]): The function to time.
        device (torch.device): Device of the work. A GPU is synchronised before and after the run.

    Returns:
        float: The time in seconds.
    """
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
