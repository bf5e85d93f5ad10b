"""Parallel work on many files in several processes, with a progress bar. It continues when a file crashes a decoder."""

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.pool import ExceptionWithTraceback  # type: ignore[attr-defined]
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

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
    timeout: float | None = None,
    late: Result | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to every item, in other processes.

    Some damaged files make a decoder crash its process. The item of such a process gets the result ``crashed``, and the
    work on the other items continues.

    Args:
        function (Callable[[Item], Result]): The function. It has to be picklable.
        items (Sequence[Item]): The items.
        crashed (Result): Result of an item that ends its process.
        workers (int): Number of processes.
        title (str): Beginning of the progress bar.
        unit (str): Name of an item in the bar. Defaults to "file".
        chunk (int): Number of items sent to a process at a time. Defaults to 16.
        progress (bool): Whether to show the bar, on standard error. Defaults to True.
        timeout (float, optional): Seconds that an item may take before its process is killed. Defaults to None, any
            time.
        late (Result, optional): Result of an item that takes longer. Defaults to None: ``crashed``.

    Yields:
        tuple[Item, Result]: The items and their results, in any order.
    """
    todo = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    todo.reverse()  # chunks are taken from the end
    team: list[_Worker] = []
    result: Any
    with progress_bar(len(items), title, unit, progress) as bar:
        try:
            while todo or team:
                while todo and len(team) < workers:
                    team.append(_Worker(function))
                    team[-1].give(todo.pop())
                for worker in _ready(team, timeout):
                    item = worker.items[0]
                    try:
                        result = worker.receive()
                    except (EOFError, OSError):  # the worker died at this item
                        result = crashed if late is None or not worker.is_late else late
                        todo += [left] if (left := list(worker.items)[1:]) else []
                        team.remove(worker)
                        worker.end()
                    if isinstance(result, BaseException):
                        raise result
                    bar.update()
                    yield item, result
                for worker in [worker for worker in team if not worker.items]:
                    if todo:
                        worker.give(todo.pop())
                    else:
                        team.remove(worker)
                        worker.end()
        finally:  # especially after an interruption, which should not wait for minutes of decoding
            for worker in team:
                worker.end(kill=True)


def progress_bar(total: int, title: str, unit: str, progress: bool) -> tqdm:
    """Return a progress bar on standard error with the remaining time.

    Args:
        total (int): The total amount of work.
        title (str): Beginning of the bar.
        unit (str): The unit of the amount; "B" for bytes.
        progress (bool): Whether to show the bar.

    Returns:
        tqdm: The bar, to use as a context manager and to update.
    """
    interval = 0.1 if sys.stderr.isatty() else 5.0  # few lines for a log file
    return tqdm(
        total=total,
        desc=title,
        unit=unit,
        unit_scale=unit == "B",
        mininterval=interval,
        disable=not (progress and total),
    )


class _Worker:
    """Process that receives items and sends the result of each one, so that its current item is known.

    Args:
        function (Callable): The function to apply to each item.
    """

    def __init__(self, function: Callable) -> None:
        # A forked worker starts at once. A spawned worker would have to import torch and all of OpenMMLab first.
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork") if can_fork else multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.items: deque = deque()  # sent items that have no result yet
        self.since = time.monotonic()  # latest time at which it started with the first of them
        self.is_late = False
        self._process: BaseProcess = context.Process(
            target=_serve, args=(function, theirs, self.connection), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the connection ends with the process

    def give(self, items: Sequence) -> None:
        """Send items to an idle process."""
        self.items.extend(items)
        self.since = time.monotonic()
        with suppress(BrokenPipeError):  # the process has died; `receive` will find out
            self.connection.send(items)

    def receive(self) -> Any:
        """Return the result of the first item, or the exception that it raised.

        Raises:
            EOFError: If the process has died. ``items`` does not change.
            OSError: If the process has died. ``items`` does not change.
        """
        result = self.connection.recv()
        self.items.popleft()
        self.since = time.monotonic()
        return result

    def stop_late(self) -> None:
        """Kill the process, unless it has just sent a result. A hanging decoder cannot be ended otherwise."""
        if not self.connection.poll():
            self.is_late = True
            self._process.kill()

    def end(self, kill: bool = False) -> None:
        """Wait until the process has ended."""
        if kill:
            self._process.kill()
        with suppress(BrokenPipeError):
            self.connection.send(None)  # closing is not enough: processes forked later also hold this connection
        self.connection.close()
        self._process.join()


def _ready(team: Sequence[_Worker], timeout: float | None) -> list[_Worker]:
    """Wait for results. Return the workers that have one or have died. Kill workers that exceed the timeout."""
    left = None
    if timeout is not None:
        left = max(min(worker.since for worker in team) + timeout - time.monotonic(), 0)
    found = wait([worker.connection for worker in team], left)
    now = time.monotonic()
    for worker in team:
        if timeout is not None and worker.connection not in found and now - worker.since >= timeout:
            worker.stop_late()
    return [worker for worker in team if worker.connection in found]


def _serve(function: Callable, connection: Connection, parents: Connection) -> None:
    """Process items in a worker process, until the parent sends None or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the work
    cv2.setNumThreads(0)
    parents.close()  # a forked process holds it too, and would never notice the parent's end
    while True:
        try:
            items = connection.recv()
        except EOFError:
            return
        if items is None:
            return
        for item in items:
            try:
                result = function(item)
            except Exception as error:
                result = ExceptionWithTraceback(error, error.__traceback__)
            connection.send(result)
