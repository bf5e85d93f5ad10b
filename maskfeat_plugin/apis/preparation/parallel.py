"""Work on many files in several processes, with a progress bar, whatever the files do to the decoders."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    crashed: Result,
    workers: int,
    title: str,
    unit: str = "file",
    chunk: int = 16,
    progress: bool = True,
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to every item, in other processes.

    An item whose process dies, as decoders do now and then on damaged files, gets the result
    ``crashed``; the others go on.

    Args:
        function (Callable[[Item], Result]): The function, one that can be pickled.
        items (Sequence[Item]): What it is applied to.
        crashed (Result): Result of an item that ends its process.
        workers (int): Processes.
        title (str): Beginning of the progress bar.
        unit (str): What is counted. Defaults to "file".
        chunk (int): Items sent to a process at a time. Defaults to 16.
        progress (bool): Whether to show the bar, on standard error. Defaults to True.

    Yields:
        tuple[Item, Result]: In any order.
    """
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    chunks.reverse()  # they are taken from the end
    with progress_bar(len(items), title, unit, progress) as bar:
        while chunks:
            suspects = yield from _run_pool(function, chunks, workers, bar)
            for item in suspects:
                yield item, _run_alone(function, item, crashed)
                bar.update()


def progress_bar(total: int, title: str, unit: str, progress: bool) -> tqdm:
    """A bar on standard error with the time left.

    Args:
        total (int): How much there is to do.
        title (str): Beginning of the bar.
        unit (str): What is counted; "B" for bytes.
        progress (bool): Whether to show it.

    Returns:
        tqdm: To be updated, as a context.
    """
    interval = 0.1 if sys.stderr.isatty() else 5.0  # a log file wants few lines
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        unit_scale=unit == "B",
        mininterval=interval,
        disable=not (progress and total),
    )


def _run_pool(
    function: Callable[[Item], Result], chunks: list[Sequence[Item]], workers: int, bar: tqdm
) -> Generator[tuple[Item, Result], None, list[Item]]:
    """Take chunks from the end of the list and yield their results; returns the items at work when a process died."""
    running: dict[Future, Sequence[Item]] = {}
    others = set(multiprocessing.active_children())
    executor = _pool(workers)
    try:
        while chunks or running:
            # few at a time: these are the ones to be looked at if a process dies
            while chunks and len(running) < 2 * workers:
                part = chunks[-1]
                running[executor.submit(_apply, function, part)] = part
                chunks.pop()  # only now: a pool whose process died takes no more
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results = future.result()
                part = running.pop(future)
                bar.update(len(part))
                yield from zip(part, results, strict=True)
    except BrokenProcessPool:
        return [item for part in running.values() for item in part]
    except BaseException:  # above all an interruption, which need not wait for minutes of decoding
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return []


def _run_alone(function: Callable[[Item], Result], item: Item, crashed: Result) -> Result:
    """The result of one item, in a process of its own."""
    with _pool(1) as executor:
        try:
            return executor.submit(function, item).result()
        except BrokenProcessPool:
            return crashed


def _pool(workers: int) -> ProcessPoolExecutor:
    # A forked worker starts at once; a spawned one would import torch and all of OpenMMLab first.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(0)


def _apply(function: Callable[[Item], Result], part: Sequence[Item]) -> list[Result]:
    return [function(item) for item in part]
