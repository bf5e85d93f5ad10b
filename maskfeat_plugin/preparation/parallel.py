"""Work on many files in several processes, with a progress bar, whatever the files do to the decoders."""

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
        timeout (float, optional): Seconds that an item may take; its process is killed then. Defaults to None, any
            time.
        late (Result, optional): Result of an item that takes longer. Defaults to None: ``crashed``.

    Yields:
        tuple[Item, Result]: In any order.
    """
    todo = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    todo.reverse()  # they are taken from the end
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
                    except (EOFError, OSError):  # it died at this item
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
        finally:  # above all an interruption, which need not wait for minutes of decoding
            for worker in team:
                worker.end(kill=True)


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


class _Worker:
    """A process that takes items and sends the result of each, so that it is known which one it is at.

    Args:
        function (Callable): Applied to each item.
    """

    def __init__(self, function: Callable) -> None:
        # A forked worker starts at once; a spawned one would import torch and all of OpenMMLab first.
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork") if can_fork else multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.items: deque = deque()  # given, without a result yet
        self.since = time.monotonic()  # when it began with the first of them, at the latest
        self.is_late = False
        self._process: BaseProcess = context.Process(
            target=_serve, args=(function, theirs, self.connection), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the end of the process is the end of what it sends

    def give(self, items: Sequence) -> None:
        """Send items to an idle process."""
        self.items.extend(items)
        self.since = time.monotonic()
        with suppress(BrokenPipeError):  # it has died, which is seen when it is asked for the result
            self.connection.send(items)

    def receive(self) -> Any:
        """Return the result of the first item, or the exception that it raised.

        Raises:
            EOFError: If the process has died. ``items`` stay as they are.
            OSError: Likewise.
        """
        result = self.connection.recv()
        self.items.popleft()
        self.since = time.monotonic()
        return result

    def stop_late(self) -> None:
        """Kill the process, unless it has just sent a result: nothing else ends a decoder that hangs."""
        if not self.connection.poll():
            self.is_late = True
            self._process.kill()

    def end(self, kill: bool = False) -> None:
        """Wait until the process has ended."""
        if kill:
            self._process.kill()
        with suppress(BrokenPipeError):
            self.connection.send(None)  # closing alone ends none: processes forked later have this connection too
        self.connection.close()
        self._process.join()


def _ready(team: Sequence[_Worker], timeout: float | None) -> list[_Worker]:
    """Wait for results; return the workers that have one, or have died. Kill those that are late."""
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
    """Work in another process, until the parent sends None or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the work
    cv2.setNumThreads(0)
    parents.close()  # a forked process has it too, and would never see the parent's end
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
