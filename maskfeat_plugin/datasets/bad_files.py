"""Files that cannot be read: left out of training, listed, and too many of them an error."""

import logging
import os
import queue
import random
import re
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from mmengine.logging import MMLogger, print_log
from torch.utils.data import Dataset, get_worker_info

from maskfeat_plugin.registry import DATASETS

from .bad_file_list import LIST_NAME, UNKNOWN, BadFile, BadFileList, has_changed, state_of
from .clips_by_duration import DrawsFiles
from .folders import printable
from .sample_paths import sample_path

# Failures one after the other that say that not the files are bad but the pipeline, or what holds the files
_IN_A_ROW = 10
# Workers of a dataloader of which is known what they read
_WORKERS = 128
# Files of the list that a message names
_NAMED = 5
# Seconds that the file system may take to say when a listed file was changed
_LOOK = 5.0

_Result = TypeVar("_Result")


class TooManyBadFiles(RuntimeError):
    """More files cannot be read than a data set may leave out; the message names the first of them and the list."""

    def __init__(self, message: str) -> None:
        # one that crosses from a worker of a dataloader comes with its traceback before it
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


@DATASETS.register_module()
class SkipBadFiles(Dataset):
    """A training set that leaves out the files that cannot be read, up to a share of them.

    Another sample stands in for one that cannot be read: always the same, and augmented as if the bad file had never
    been there, so that training with the same seed gives the same numbers, whichever worker met the file first. Each
    bad file is listed once, with the reason, in ``list_file``, and counted there for all workers and processes.

    A listed file is not read again by any worker, process or resumed training that has the same ``list_file``, until
    its size or time of change differ from those in the list. There is one exception: a file that failed after random
    numbers were drawn, such as the place of a clip, may be whole elsewhere. It is tried again whenever its turn comes.

    All other settings are those of the data set it stands for, so that a config needs two keys more::

        dict(type="maskfeat.SkipBadFiles", dataset_type="VideoDataset", ann_file=..., pipeline=...)

    What it is asked for besides samples comes from that data set. A sample that takes longer than ``timeout`` is bad
    too; the thread that reads it is left to itself, for nothing ends a decoder that hangs. One that keeps the
    interpreter from running holds up its worker all the same, until the dataloader's own ``timeout``, if it has one.

    Args:
        dataset_type (str): Type of the data set; one of samples that can be read by index.
        limit (float): Share of the samples that may be bad, in [0, 1]. Defaults to 0.01.
        timeout (float, optional): Seconds that a sample may take; None for any time. Defaults to 120.
        list_file (str, optional): Where bad files are listed, a line each: path, tab, reason, and for a file that is
            not read again a tab, its bytes and the time of its last change. Defaults to None: ``bad_files.txt`` in the
            work directory where tools/train.py trains, beside the log of another runner, or in a temporary folder.
        **settings: Of the data set.

    Raises:
        ValueError: If a setting is out of range, or the data set is one to test on, where no sample can stand in for
            another.
    """

    def __init__(
        self,
        dataset_type: str,
        limit: float = 0.01,
        timeout: float | None = 120.0,
        list_file: str | None = None,
        **settings: object,
    ) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"SkipBadFiles: limit={limit} is a share of the samples and has to be in [0, 1].")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"SkipBadFiles: timeout={timeout} has to be a number of seconds above 0, or None.")
        self.dataset = DATASETS.build(dict(type=dataset_type, **settings))
        if getattr(self.dataset, "test_mode", False):
            raise ValueError(
                "SkipBadFiles: test_mode=True: another sample in the place of one that cannot be read would falsify "
                f"the result; take {dataset_type} itself."
            )
        self._draws_files = isinstance(self.dataset, DrawsFiles)
        self.limit = limit
        self.timeout = timeout
        self.list_file = Path(list_file) if list_file else _list_beside_the_log()
        self._list = BadFileList(self.list_file)
        self._reader = TimedReader()
        # process, sample that it is at, and since when in nanoseconds, for each worker of a dataloader, in memory that
        # all of them share
        self._reading = torch.zeros(_WORKERS, 3, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> object:
        if name == "dataset":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, idx: int) -> dict | list[dict]:
        """The sample, or the one that stands in for it.

        Args:
            idx (int): Its number.

        Returns:
            dict | list[dict]: What the data set gives.

        Raises:
            TooManyBadFiles: If more files than the limit allows cannot be read, or many one after the other.
        """
        if self._list.refresh():
            self._check_limit()
        failures: dict[int, BadFile] = {}
        read: Callable[[Any], Any] = self.dataset.read_file if self._draws_files else self.dataset.__getitem__
        for index in self._candidates(self.dataset.draw_file(idx) if self._draws_files else idx):
            if index in failures or self._is_left_out(index):
                continue
            state = _random_state()
            self._say_what_is_read(index)
            sample, error = self._reader.read(read, index, self.timeout)
            if error is not None:
                # after random numbers were drawn, the next draw may read well; but to wait again costs too much
                is_bad = isinstance(error, TimeoutError) or _is_random_state(state)
                _set_random_state(state)
                failures[index] = BadFile(describe_failure(error), self._state(index) if is_bad else None)
                if len(failures) == min(_IN_A_ROW, self._count_files()):
                    break
                continue
            if failures:
                self._add({printable(self._file(index)): file for index, file in failures.items()})
            return cast(dict | list[dict], sample)
        # not listed: with all files failing there is something else to mend
        named = _name({printable(self._file(index)): file for index, file in failures.items()})
        raise TooManyBadFiles(
            f"{len(failures)} files one after the other cannot be read, so the pipeline may be wrong, or the place of "
            f"the files: {named}."
        )

    def file_at(self, process: int) -> str | None:
        """The file that a worker of a dataloader read last, alive or not.

        Args:
            process (int): The worker's process.

        Returns:
            str | None: Its path, None if it has read none.
        """
        reading = self._reading_of(process)
        return None if reading is None else printable(self._file(reading[0]))

    def seconds_at(self, process: int) -> float:
        """Return how long ago a worker of a dataloader began to read its last file, 0 if it has read none.

        Args:
            process (int): The worker's process.
        """
        reading = self._reading_of(process)
        return 0.0 if reading is None else (time.monotonic_ns() - reading[1]) * 1e-9

    def give_up(self, process: int, reason: str) -> None:
        """List the file that a worker read last, so that no worker and no resumed training reads it again.

        Args:
            process (int): The worker's process.
            reason (str): What the file did to the worker.
        """
        reading = self._reading_of(process)
        if reading is not None:
            file = self._file(reading[0])
            self._write({printable(file): BadFile(reason, state_of(file))})

    def _reading_of(self, process: int) -> tuple[int, int] | None:
        """The sample that a worker read last, and when it began."""
        found = (self._reading[:, 0] == process).nonzero()
        return (int(self._reading[found[0, 0], 1]), int(self._reading[found[0, 0], 2])) if len(found) else None

    def _say_what_is_read(self, index: int) -> None:
        worker = get_worker_info()
        if worker is not None and worker.id < _WORKERS:
            self._reading[worker.id, 0] = os.getpid()
            self._reading[worker.id, 1] = index
            self._reading[worker.id, 2] = time.monotonic_ns()

    def _candidates(self, idx: int) -> Iterator[int]:
        """The sample asked for and, drawn by its number alone, those to stand in for it."""
        count = self._count_files()
        idx %= count
        yield idx
        rng = np.random.default_rng(idx)
        for _ in range(100 * _IN_A_ROW):
            yield int(rng.integers(count))

    def _count_files(self) -> int:
        return self.dataset.count_files() if self._draws_files else len(self)

    def _file(self, index: int) -> str:
        info = self.dataset.get_data_info(index) if hasattr(self.dataset, "get_data_info") else {}
        return sample_path(info) or f"sample {index}"

    def _state(self, index: int) -> str:
        """State of a sample's file, beside: a file system that hangs would hold up the worker."""
        return self._reader.read(state_of, self._file(index), _LOOK)[0] or UNKNOWN

    def _is_left_out(self, index: int) -> bool:
        """Tell whether a file is listed and unchanged since."""
        if not self._list.files:
            return False
        file = self._file(index)
        listed = self._list.files.get(printable(file))
        if listed is None or listed.state is None:
            return False
        return not self._reader.read(partial(has_changed, state=listed.state), file, _LOOK)[0]

    def _add(self, found: dict[str, BadFile]) -> None:
        """List what has failed, and stop if it is too much."""
        new = self._write(found)
        allowed = int(self.limit * self._count_files())
        for path in new:
            print_log(
                f"Left out, number {len(self._list.files)} of at most {allowed}: {path} ({found[path].reason})",
                "current",
                logging.WARNING,
            )
        if new:
            self._check_limit()

    def _write(self, found: dict[str, BadFile]) -> list[str]:
        """List files; the paths of those that were not."""
        new = [path for path in found if path not in self._list.files]
        try:
            return self._list.add(found)
        except OSError as error:  # go on, with what this process knows
            text = f"{self.list_file} cannot be written: {error.strerror or error}. Bad files are not listed there."
            print_log(text, "current", logging.WARNING)
            return new

    def _check_limit(self) -> None:
        """Stop if more files are bad than may be, those left out that were mended since."""
        allowed = int(self.limit * self._count_files())
        if len(self._list.files) <= allowed:
            return
        bad = self._reader.read(_still_bad, self._list.files, self.timeout)[0] or self._list.files
        if len(bad) > allowed:
            raise TooManyBadFiles(
                f"{len(bad)} of {self._count_files()} files cannot be read, and limit={self.limit:g} of "
                f"maskfeat.SkipBadFiles allows {allowed}: {_name(bad)}; all are listed in {self.list_file}. Mend them "
                "or take them out of the annotations, or raise limit."
            )


class TimedReader:
    """Calls functions in a thread beside, which ends with it, and is left behind when one takes too long."""

    def __init__(self) -> None:
        self._owner: int | None = None
        self._tasks: queue.SimpleQueue[tuple[Callable, object, queue.SimpleQueue] | None] = queue.SimpleQueue()

    def __getstate__(self) -> dict:
        return {}

    def __setstate__(self, state: dict) -> None:
        TimedReader.__init__(self)

    def read(
        self, get: Callable[[Any], _Result], index: object, timeout: float | None
    ) -> tuple[_Result | None, Exception | None]:
        """Return ``get(index)``, or what it raised: what a signal raises here meanwhile is not the file's fault.

        Args:
            get (Callable[[Any], Result]): Reads a sample, such as the ``__getitem__`` of a data set.
            index (object): The sample.
            timeout (float, optional): Seconds it may take; None for any time.

        Returns:
            tuple[Result | None, Exception | None]: The result or None, the exception or None.
        """
        if self._owner != os.getpid():  # threads do not cross into a worker
            self._start()
        answer: queue.SimpleQueue[tuple[_Result | None, Exception | None]] = queue.SimpleQueue()
        self._tasks.put((get, index, answer))
        try:
            return answer.get(timeout=timeout)
        except queue.Empty:
            self._owner = None
            self._end()
            return None, TimeoutError(f"it was not read in {timeout:g} s")

    def _start(self) -> None:
        self._owner = os.getpid()
        self._tasks = queue.SimpleQueue()
        threading.Thread(target=_serve, args=(self._tasks,), name="maskfeat-reader", daemon=True).start()
        self._end = weakref.finalize(self, self._tasks.put, None)


def _serve(tasks: queue.SimpleQueue) -> None:
    """Read what is asked for, until it is None."""
    while task := tasks.get():
        read, index, answer = task
        try:
            answer.put((read(index), None))
        except Exception as error:  # a decoder fails in any way
            answer.put((None, error))
        del task, read, answer  # the data set may go


def _random_state() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _is_random_state(state: tuple) -> bool:
    """Tell whether no random number was drawn since."""
    now = _random_state()
    return state[0] == now[0] and all(map(np.array_equal, state[1], now[1])) and torch.equal(state[2], now[2])


def _set_random_state(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def describe_failure(error: BaseException) -> str:
    """Return one line about an error, without the time and the places in its own source that decord's has.

    Args:
        error (Exception): What a decoder or another transform raised.
    """
    lines = re.sub(r"\[\d\d:\d\d:\d\d\] \S+: ", "", str(error)).strip().splitlines()
    kind = type(error).__name__
    return printable(f"{kind}: {lines[0]}".replace("\t", " ")) if lines else kind


def _still_bad(files: dict[str, BadFile]) -> dict[str, BadFile]:
    return {path: file for path, file in files.items() if not has_changed(path, file.state)}


def _name(files: dict[str, BadFile]) -> str:
    named = [f"{path} ({file.reason})" for path, file in list(files.items())[:_NAMED]]
    more = len(files) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _list_beside_the_log() -> Path:
    """The list for a runner that names none: its first process's is beside its log."""
    handlers = MMLogger.get_current_instance().handlers
    logs = [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]
    folder = logs[0].parent if logs else Path(tempfile.mkdtemp(prefix="maskfeat-"))
    return folder / LIST_NAME
