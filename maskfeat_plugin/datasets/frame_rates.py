"""Frame rates of videos, and the time span of clips."""

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np
from mmaction.datasets.transforms import DecordInit, SampleFrames
from mmengine.logging import print_log

# Number of files that are opened, evenly spread over the list
_OPENED = 8
# If rates differ by a larger factor, clips span clearly different times
_DIFFERENT = 1.2
# Seconds after which opening files stops. A file that hangs is reported when it is read.
_PATIENCE = 10.0


def log_frame_rates(file_at: Callable[[int], str], count: int, transforms: Sequence[Callable]) -> None:
    """Log the frame rates of some files, and warn if they differ and clips are counted in frames.

    Nothing is logged if the pipeline does not sample clips from files on a disk.

    Args:
        file_at (Callable[[int], str]): Returns the file of a sample of the data set.
        count (int): Number of samples of the data set, at least one.
        transforms (Sequence[Callable]): The pipeline of the data set.
    """
    opener = next((step for step in transforms if isinstance(step, DecordInit)), None)
    sampler = next((step for step in transforms if isinstance(step, SampleFrames)), None)
    if opener is None or sampler is None or opener.io_backend != "disk":
        return
    rates: list[float] = []
    chosen = [file_at(index) for index in np.unique(np.linspace(0, count - 1, _OPENED).round().astype(int)).tolist()]
    thread = threading.Thread(target=_open, args=(opener, chosen, rates), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    if not rates:
        return
    low, high, frames = min(rates), max(rates), sampler.clip_len * sampler.frame_interval
    found = f"{len(rates)} of {count} videos were opened: {_span(low, high)} frames a second."
    if sampler.target_fps is not None:
        print_log(f"{found} A clip spans {frames / sampler.target_fps:.3g} s in each video.", "current")
        return
    text = f"{found} A clip spans {_span(frames / high, frames / low)} s."
    if high > _DIFFERENT * low:
        text += " Set target_fps of SampleFrames, so that clips of all videos span the same time."
        print_log(text, "current", logging.WARNING)
    else:
        print_log(text, "current")


def _open(opener: Callable, files: Sequence[str], rates: list[float]) -> None:
    """Add the frame rates of files to a list."""
    for file in files:
        try:
            rate = opener(dict(filename=file))["avg_fps"]
        except Exception:  # a bad file is reported when it is read
            continue
        if rate:
            rates.append(rate)


def _span(low: float, high: float) -> str:
    low, high = f"{low:.3g}", f"{high:.3g}"
    return low if low == high else f"{low} to {high}"
