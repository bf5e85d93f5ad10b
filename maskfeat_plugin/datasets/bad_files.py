"""Data set that leaves unreadable files out of training and lists them. Too many bad files raise an error."""

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
from maskfeat_plugin.storage import StorageError

from .bad_file_list import LIST_NAME, UNKNOWN, BadFile, BadFileList, has_changed, state_of
from .clips_by_duration import DrawsFiles
from .folders import printable
from .sample_paths import sample_path

# So many failures in a row mean that the pipeline or the disk is at fault, and not the files
_IN_A_ROW = 10
# Number of dataloader workers whose current file is recorded
_WORKERS = 128
# Number of files that a message names
_NAMED = 5
# Seconds to wait for the file system to return the state of a listed file
_LOOK = 5.0

_Result = TypeVar("_Result")


class TooManyBadFiles(RuntimeError):
    """Error of a data set with more unreadable files than allowed; the message names some of them and the list."""

    def __init__(self, message: str) -> None:
        # The message of an exception from a dataloader's worker begins with the worker's traceback: remove it
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


@DATASETS.register_module()
class SkipBadFiles(Dataset):
    """Training data set that leaves out unreadable files, up to a given share of all files.

    Another sample replaces an unreadable one. The replacement is always the same and is augmented as if the bad file
    did not exist. So training with the same seed gives the same numbers, no matter which worker reads the file first.
    Each bad file is listed once, with the reason, in ``list_file``, and counted there for all workers and processes.

    Workers, processes and resumed trainings with the same ``list_file`` do not read a listed file again, unless its
    size or its time of change differs from the list. There is one exception. If a file failed after random numbers were
    drawn, for example for the position of a clip, other parts of it may be readable. Such a file is tried again each
    time.

    All other settings are the settings of the wrapped data set, so a config needs only two more keys::

        dict(type="maskfeat.SkipBadFiles", dataset_type="VideoDataset", ann_file=..., pipeline=...)

    All other attributes come from the wrapped data set. A sample that takes longer than ``timeout`` is bad too. The
    thread that reads it is abandoned, because nothing can end a decoder that hangs. A decoder that does not release the
    interpreter blocks its worker nevertheless, until the dataloader's own ``timeout``, if that is set.

    Args:
        dataset_type (str): Type of the wrapped data set, whose samples have to be readable by index.
        limit (float): Share of the files that may be bad, in [0, 1]. Defaults to 0.01.
        timeout (float, optional): Seconds that a sample may take; None for no limit. Defaults to 120.
        list_file (str, optional): The list of bad files. Each line has the path, a tab and the reason. If the file is
            not read again, a tab, its size in bytes and the time of its last change follow. Defaults to None:
            ``bad_files.txt`` in the work directory if tools/train.py trains, beside the log of another runner, or in a
            temporary folder.
        **settings: Settings of the wrapped data set.

    Raises:
        ValueError: If a setting is out of range, or if the wrapped data set is for testing, where a replacement would
            change the result.
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
                "SkipBadFiles: test_mode=True: replacing a sample that cannot be read would falsify the result. Use "
                f"{dataset_type} itself."
            )
        self._draws_files = isinstance(self.dataset, DrawsFiles)
        self.limit = limit
        self.timeout = timeout
        self.list_file = Path(list_file) if list_file else _list_beside_the_log()
        self._list = BadFileList(self.list_file)
        self._reader = TimedReader()
        # For each worker of a dataloader: its process, its current sample, and the start time in nanoseconds. The
        # memory is shared by all workers.
        self._reading = torch.zeros(_WORKERS, 3, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> object:
        if name == "dataset":  # missing while the object is unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, idx: int) -> dict | list[dict]:
        """Return a sample, or its replacement if its file cannot be read.

        Args:
            idx (int): The number of the sample.

        Returns:
            dict | list[dict]: The result of the wrapped data set.

        Raises:
            TooManyBadFiles: If more files than allowed, or many in a row, cannot be read.
            StorageError: If the storage of the files cannot be used. The files may be in order.
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
            if isinstance(error, StorageError):
                raise error  # the file may be in order
            if error is not None:
                # After a random draw, another draw may succeed, so the file is not bad. A timeout is too slow to retry.
                is_bad = isinstance(error, TimeoutError) or _is_random_state(state)
                _set_random_state(state)
                failures[index] = BadFile(describe_failure(error), self._state(index) if is_bad else None)
                if len(failures) == min(_IN_A_ROW, self._count_files()):
                    break
                continue
            if failures:
                self._add({printable(self._file(index)): file for index, file in failures.items()})
            return cast(dict | list[dict], sample)
        # Not listed: if all files fail, the cause is another one
        named = _name({printable(self._file(index)): file for index, file in failures.items()})
        raise TooManyBadFiles(
            f"{len(failures)} files one after the other cannot be read, so the pipeline may be wrong, or the path of "
            f"the files: {named}."
        )

    def file_at(self, process: int) -> str | None:
        """Return the file that a dataloader worker read last, whether the worker still runs or not.

        Args:
            process (int): The process id of the worker.

        Returns:
            str | None: The path of the file; None if the worker has read none.
        """
        reading = self._reading_of(process)
        return None if reading is None else printable(self._file(reading[0]))

    def seconds_at(self, process: int) -> float:
        """Return the seconds since a dataloader worker started to read its last file; 0 if it has read none.

        Args:
            process (int): The process id of the worker.
        """
        reading = self._reading_of(process)
        return 0.0 if reading is None else (time.monotonic_ns() - reading[1]) * 1e-9

    def give_up(self, process: int, reason: str) -> None:
        """Add the file that a worker read last to the list, so that no worker and no resumed training reads it again.

        Args:
            process (int): The process id of the worker.
            reason (str): The effect of the file on the worker.
        """
        reading = self._reading_of(process)
        if reading is not None:
            file = self._file(reading[0])
            self._write({printable(file): BadFile(reason, state_of(file))})

    def _reading_of(self, process: int) -> tuple[int, int] | None:
        """Return the sample that a worker read last, and the time when it started."""
        found = (self._reading[:, 0] == process).nonzero()
        return (int(self._reading[found[0, 0], 1]), int(self._reading[found[0, 0], 2])) if len(found) else None

    def _say_what_is_read(self, index: int) -> None:
        worker = get_worker_info()
        if worker is not None and worker.id < _WORKERS:
            self._reading[worker.id, 0] = os.getpid()
            self._reading[worker.id, 1] = index
            self._reading[worker.id, 2] = time.monotonic_ns()

    def _candidates(self, idx: int) -> Iterator[int]:
        """Yield the requested sample and then its replacements, which depend only on its number."""
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
        """Read the state of a sample's file in the other thread, because a hanging file system would block this one."""
        return self._reader.read(state_of, self._file(index), _LOOK)[0] or UNKNOWN

    def _is_left_out(self, index: int) -> bool:
        """Check whether a file is listed and has not changed since."""
        if not self._list.files:
            return False
        file = self._file(index)
        listed = self._list.files.get(printable(file))
        if listed is None or listed.state is None:
            return False
        return not self._reader.read(partial(has_changed, state=listed.state), file, _LOOK)[0]

    def _add(self, found: dict[str, BadFile]) -> None:
        """Add failed files to the list, and raise an error if there are too many."""
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
        """Add files to the list, and return the paths that it did not have."""
        new = [path for path in found if path not in self._list.files]
        try:
            return self._list.add(found)
        except OSError as error:  # continue with the bad files that this process knows
            text = f"{self.list_file} cannot be written: {error.strerror or error}. Bad files are not listed there."
            print_log(text, "current", logging.WARNING)
            return new

    def _check_limit(self) -> None:
        """Raise an error if too many files are bad. Listed files that were repaired since do not count."""
        allowed = int(self.limit * self._count_files())
        if len(self._list.files) <= allowed:
            return
        bad = self._reader.read(_still_bad, self._list.files, self.timeout)[0] or self._list.files
        if len(bad) > allowed:
            raise TooManyBadFiles(
                f"{len(bad)} of {self._count_files()} files cannot be read, and limit={self.limit:g} of "
                f"maskfeat.SkipBadFiles allows {allowed}: {_name(bad)}; all are listed in {self.list_file}. Repair "
                "these files, remove them from the annotations, or raise limit."
            )


class TimedReader:
    """Caller of functions in a second thread, which is abandoned if a function takes too long."""

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
        """Return the result of ``get(index)``, or its exception.

        Exceptions of signal handlers in the calling thread are not caught, because the file does not cause them.

        Args:
            get (Callable[[Any], Result]): Function that reads a sample, for example ``__getitem__`` of a data set.
            index (object): The sample.
            timeout (float, optional): Seconds that the call may take; None for no limit.

        Returns:
            tuple[Result | None, Exception | None]: The result or None, and the exception or None.
        """
        if self._owner != os.getpid():  # a forked worker does not have the thread
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
    """Run tasks from a queue and put their results into the answer queues, until a task is None."""
    while task := tasks.get():
        read, index, answer = task
        try:
            answer.put((read(index), None))
        except Exception as error:  # a decoder can raise any error
            answer.put((None, error))
        del task, read, answer  # so that the data set can be freed


def _random_state() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _is_random_state(state: tuple) -> bool:
    """Check whether no random number was drawn since the state was taken."""
    now = _random_state()
    return state[0] == now[0] and all(map(np.array_equal, state[1], now[1])) and torch.equal(state[2], now[2])


def _set_random_state(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def describe_failure(error: BaseException) -> str:
    """Describe an error in one line, without the time and the source position in the messages of decord.

    Args:
        error (Exception): The exception of a decoder or another transform.
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
    """Return the default path of the list: in the folder of the runner's log, or in a temporary folder."""
    handlers = MMLogger.get_current_instance().handlers
    logs = [Path(handler.baseFilename) for handler in handlers if isinstance(handler, logging.FileHandler)]
    folder = logs[0].parent if logs else Path(tempfile.mkdtemp(prefix="maskfeat-"))
    return folder / LIST_NAME
