"""Reader of samples for the extraction of features. It leaves out bad files; batches do not depend on the workers."""

import contextlib
import os
import re
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data.dataloader import _BaseDataLoaderIter

from maskfeat_plugin.datasets.bad_files import TimedReader, describe_failure
from maskfeat_plugin.errors import whole_text

from .sources import Row, Source

# Seconds to wait until the system reports how a process ended
_PATIENCE = 2.0
# Seconds between two checks of workers that send nothing
_LOOK = 5.0
# Seconds beyond the timeout for a worker to notice itself that its sample takes too long
_GRACE = 1.0
# Number of attempts to read a sample: a worker may also end because of other processes, for example if memory is full
_ATTEMPTS = 2


@dataclass(frozen=True)
class Batch:
    """Rows of a task for the model, and the samples that could not be read.

    Args:
        task (int): Number of the task.
        numbers (list[int]): Number of the sample of each row.
        rows (list[Row]): The packed samples.
        bad (dict[int, str]): Number of a sample -> reason why it cannot be read. Its rows in this task do not count.
        is_last (bool): Whether the task is done.
    """

    task: int
    numbers: list[int]
    rows: list[Row]
    bad: dict[int, str]
    is_last: bool


class SampleReader:
    """Reader of samples in this process or in workers. It continues after samples that fail, hang, or end a worker.

    A task is a list of samples. Its batches depend only on this list, not on the workers or on other tasks.

    Args:
        source (Source): The samples.
        batch_size (int): Largest number of rows of a batch.
        workers (int): Number of processes that read. With 0 this process reads; then a sample that ends the process of
            its reader ends this process.
        timeout (float, optional): Longest time for reading a row, in seconds; None for no limit.
    """

    def __init__(self, source: Source, batch_size: int, workers: int, timeout: float | None) -> None:
        self.source = source
        self.batch_size = batch_size
        self._workers = workers
        self._timeout = timeout
        self._here = TimedReader()
        # for each worker: its process, its sample, and the time when it began to read the sample. There are rows for
        # two loaders, because one starts before the other has ended.
        self._reading = torch.full((2 * workers, 3), -1.0, dtype=torch.float64).share_memory_()
        self._turn = 0

    def start(self, tasks: Sequence[list[int]]) -> "Reading":
        """Begin to read tasks; workers start at once.

        Args:
            tasks (Sequence[list[int]]): Numbers of the samples of each task.
        """
        self._turn = 1 - self._turn
        return Reading(self, dict(enumerate(tasks)), self._turn * self._workers)

    def check(self, number: int) -> str | None:
        """Read a sample in this process.

        Args:
            number (int): Its number.

        Returns:
            str | None: The reason why it cannot be read now; None if it can be read.
        """
        _, error = self._here.read(_advance, self.source.read(number), self._timeout)
        return None if error is None else describe_failure(error)

    def load(self, tasks: Mapping[int, list[int]], bad: Mapping[int, str], first: int) -> _BaseDataLoaderIter:
        """Return an iterator over the batches of tasks.

        Args:
            tasks (Mapping[int, list[int]]): Number of a task -> its samples.
            bad (Mapping[int, str]): Samples to leave out -> reason.
            first (int): Row of the first worker in the table where workers note their current samples.
        """
        batches = _Batches(self.source, tasks, bad, self.batch_size, self._timeout, self._reading[first:])
        # the interval at which the dataloader checks that its workers are alive, and its caller that no worker hangs
        # and blocks all other threads
        patience = min(self._timeout or _LOOK, _LOOK) if self._workers else 0
        return iter(DataLoader(batches, None, num_workers=self._workers, collate_fn=_as_it_is, timeout=patience))

    def find_lost(self, error: Exception, loader: _BaseDataLoaderIter) -> dict[int, str] | None:
        """Find the samples that workers were reading when they ended or began to hang.

        Args:
            error (Exception): Exception that was raised while reading.
            loader (_BaseDataLoaderIter): The loader.

        Returns:
            dict[int, str] | None: Number of a sample -> reason; None if no worker caused the exception.
        """
        now, text = time.time(), whole_text(error)
        if "DataLoader timed out" in text:
            limit = self._timeout or float("inf")
            rows = [row for row in self._reading.tolist() if row[1] >= 0 and now - row[2] > limit + _GRACE]
            return {int(row[1]): f"TimeoutError: it was not read in {self._timeout:g} s" for row in rows}
        told = re.findall(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", text)
        if not told and not isinstance(error, RuntimeError | OSError | EOFError):
            return None
        with contextlib.suppress(RuntimeError):  # torch may raise for the same worker again, when the signal arrives
            time.sleep(0.1 if told else _PATIENCE)
        ended = {worker.pid: worker.exitcode for worker in getattr(loader, "_workers", ()) if worker.exitcode}
        for pid in map(int, re.findall(r"\d+", " ".join(told))):
            ended.setdefault(pid, None)
        if not ended:
            return None
        found = {}
        for pid, number, _ in self._reading.tolist():
            if int(pid) in ended and number >= 0:
                found[int(number)] = f"the process that reads it ended ({_describe_end(ended[int(pid)])})"
        return found


@dataclass
class Reading:
    """Iterable over the batches of some tasks.

    Args:
        reader (SampleReader): Reader of the samples.
        tasks (dict[int, list[int]]): Number of a task -> its samples.
        first (int): See :meth:`SampleReader.load`.
        bad (dict[int, str]): Samples that are known to be bad -> reason. Defaults to none.
    """

    reader: SampleReader
    tasks: dict[int, list[int]]
    first: int
    bad: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deaths: dict[int, int] = {}
        self._lost = 0
        self._loader = self.reader.load(self.tasks, self.bad, self.first)

    def __iter__(self) -> Iterator[Batch | None]:
        """Read the batches.

        Yields:
            Batch | None: A batch, or None if a worker was lost: then every task that is not done starts again.

        Raises:
            RuntimeError: If workers end for another reason than a sample.
        """
        while self.tasks:
            try:
                batch = next(self._loader)
            except (RuntimeError, OSError, EOFError) as error:
                if not self.blame(error):
                    continue
                yield None
                continue
            yield batch

    def finish(self, task: int) -> None:
        """Mark a task as done. When a worker is lost, only the other tasks start again.

        Args:
            task (int): Its number.
        """
        del self.tasks[task]

    def blame(self, error: Exception) -> bool:
        """Find the sample that caused an exception, and start reading again without it.

        Args:
            error (Exception): Exception raised while reading, or at any other place by the signal of a worker's end.

        Returns:
            bool: False if nothing has to start again, because reading only took long.

        Raises:
            Exception: ``error``, if no worker caused it.
        """
        lost = self.reader.find_lost(error, self._loader)
        if lost == {} and "DataLoader timed out" in str(error):
            return False
        if lost is None or self._lost == _ATTEMPTS:
            raise error
        self._lost = 0 if lost else self._lost + 1
        for number, reason in lost.items():
            self._deaths[number] = self._deaths.get(number, 0) + 1
            if self._deaths[number] == _ATTEMPTS or reason.startswith("TimeoutError"):
                self.bad[number] = reason
        del self._loader  # ends its workers
        self._loader = self.reader.load(self.tasks, self.bad, self.first)
        return True


class _Batches(IterableDataset):
    """Data set of the batches of tasks. Each worker reads its share of the tasks, see :meth:`SampleReader.load`."""

    def __init__(
        self,
        source: Source,
        tasks: Mapping[int, list[int]],
        bad: Mapping[int, str],
        batch_size: int,
        timeout: float | None,
        reading: torch.Tensor,
    ) -> None:
        self._source = source
        self._tasks = list(tasks.items())
        self._bad = dict(bad)
        self._batch_size = batch_size
        self._timeout = timeout
        self._reading = reading

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        reader = TimedReader()
        for task, numbers in self._tasks if worker is None else self._tasks[worker.id :: worker.num_workers]:
            kept: deque[tuple[int, Row]] = deque()
            bad: dict[int, str] = {}
            for number in numbers:
                if number in self._bad:
                    bad[number] = self._bad[number]
                    continue
                rows = self._source.read(number)
                while True:
                    if worker is not None:
                        self._reading[worker.id] = torch.tensor([os.getpid(), number, time.time()], dtype=torch.float64)
                    row, error = reader.read(_advance, rows, self._timeout)
                    if worker is not None:  # it reads no sample now, and may wait for the other workers
                        self._reading[worker.id, 1] = -1
                    if error is not None:
                        bad[number] = describe_failure(error.__cause__ or error)
                        kept = deque(pair for pair in kept if pair[0] != number)
                    if error is not None or row is None:
                        break
                    if len(kept) == self._batch_size:
                        yield _batch(task, kept, {}, False)
                        kept.clear()
                    kept.append((number, row))
            yield _batch(task, kept, bad, True)


def _batch(task: int, kept: Iterable[tuple[int, Row]], bad: dict[int, str], is_last: bool) -> Batch:
    numbers, rows = [number for number, _ in kept], [row for _, row in kept]
    return Batch(task, numbers, rows, bad, is_last)


def _advance(rows: Iterator[Row]) -> Row | None:
    return next(rows, None)


def _as_it_is(batch: Any) -> Any:
    return batch


def _describe_end(code: int | None) -> str:
    if code is None:
        return "unexpectedly"
    if code >= 0:
        return f"status {code}"
    name = signal.strsignal(-code)
    return f"{name}; the memory may have run out" if name == "Killed" else str(name)
