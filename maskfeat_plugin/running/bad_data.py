"""The list of bad files of a training, and the messages for failed dataloader workers."""

import re
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from maskfeat_plugin.config.sample_sizes import class_name
from maskfeat_plugin.config.walking import walk
from maskfeat_plugin.datasets import SkipBadFiles, TooManyBadFiles
from maskfeat_plugin.datasets.bad_file_list import LIST_NAME, BadFileList
from maskfeat_plugin.errors import ConfigError, whole_text

_SKIPPING = SkipBadFiles.__name__
# Seconds to wait for the signal of a process after its connection has ended
_PATIENCE = 2.0


def forget_bad_files(cfg: Config) -> None:
    """Delete the list of bad files that another training left in the work directory. A resumed training keeps its list.

    Args:
        cfg (Config): The config. Of several processes, only the first calls this, before they are connected.
    """
    if not cfg.get("resume"):
        Path(cfg.work_dir, LIST_NAME).unlink(missing_ok=True)


def list_bad_files(cfg: Config) -> None:
    """Set the list of bad files of the training set to a file in the work directory, unless the config sets another.

    Args:
        cfg (Config): The config. Each ``maskfeat.SkipBadFiles`` in ``train_dataloader`` is completed in place.
    """
    for part in _skipping(cfg):
        if part.get("list_file") is None:
            part["list_file"] = str(Path(cfg.work_dir, LIST_NAME))


def describe_listed(cfg: Config) -> list[str]:
    """Describe the lists of bad files that a training starts with, one line for each list that is not empty.

    Args:
        cfg (Config): The config, completed by :func:`list_bad_files`.
    """
    texts = []
    for path in sorted({str(part["list_file"]) for part in _skipping(cfg)}):
        bad = BadFileList(Path(path))
        bad.refresh()
        if bad.files:
            texts.append(
                f"{path} lists {len(bad.files)} bad files, which are left out unless they have changed. Delete the "
                "list to try all of them."
            )
    return texts


def _skipping(cfg: Config) -> Iterator[dict]:
    """Return the configs of ``maskfeat.SkipBadFiles`` in ``train_dataloader``."""
    for _, part in walk(cfg.train_dataloader.get("dataset")):
        if class_name(part) == _SKIPPING:
            yield part


@contextmanager
def named_data_errors(dataloader: DataLoader, key: str) -> Iterator[None]:
    """Turn errors of the block that the data cause into a :class:`ConfigError`.

    Args:
        dataloader (DataLoader): The dataloader of the batches.
        key (str): Its key in the config.

    Raises:
        ConfigError: For the errors of :func:`describe_data_error`. Other exceptions pass unchanged.
    """
    try:
        yield
    except Exception as error:
        message = describe_data_error(error, dataloader, key)
        if message is None:
            raise
        raise ConfigError(message) from error


def describe_data_error(error: Exception, dataloader: DataLoader, key: str) -> str | None:
    """Describe, for the user, an error that the data caused. Return None for any other error.

    If a file crashes a worker, or keeps it busy until the dataloader's ``timeout``, the file is added to the list of
    bad files of :class:`.SkipBadFiles`. The resumed training then leaves it out.

    Args:
        error (Exception): The exception that a step raised.
        dataloader (DataLoader): The dataloader of the batch.
        key (str): Its key in the config.

    Returns:
        str | None: The message.
        str | None: The message.
    """
    if isinstance(error, TooManyBadFiles):
        return f"{key}.dataset: {error}"
    text = whole_text(_with_signal(error))
    if "DataLoader timed out after" in text:
        return _describe_timeout(error, dataloader, key)
    found = re.search(r"DataLoader worker \(pid(?:\(s\))? (\d+)", text)
    if found is None:
        return None
    about = f"a worker of {key} (process {found[1]}{_doing(dataloader.dataset, int(found[1]))})"
    fewer = f"fewer workers ({key}.num_workers={dataloader.num_workers}) or a smaller {key}.prefetch_factor"
    if "killed by signal: Killed" in text:
        return (
            f"{about} was killed from outside. Most likely the memory ran out, and the system or the cluster's limit "
            f"ended it (see `dmesg` or the log of the job). Use {fewer}, or more memory."
        )
    if "bus error" in text.lower():
        return f"{about} ran out of shared memory, /dev/shm. Make it larger (docker run --shm-size=8g), or use {fewer}."
    if "segmentation fault" in text.lower():
        advice = _give_up(dataloader.dataset, int(found[1]), "it crashed a worker: segmentation fault")
        return f"{about} crashed inside a decoder: the file is damaged, and the decoder cannot handle it. {advice}"
    return (
        f"{about} ended unexpectedly: {text.splitlines()[0]} It may have run out of memory: use {fewer}. To see the "
        f"error itself, set {key}.num_workers=0 {key}.persistent_workers=False."
    )


def _describe_timeout(error: Exception, dataloader: DataLoader, key: str) -> str | None:
    """Describe, for the user, that a worker gave no batch within the dataloader's ``timeout``."""
    loading = _loading_of(error)
    if loading is None:
        return None
    process = loading._workers[loading._task_info[loading._rcvd_idx][0]].pid
    dataset, seconds = dataloader.dataset, dataloader.timeout
    about = f"a worker of {key} (process {process}{_doing(dataset, process)})"
    about += f" gave no batch in {seconds:g} s, {key}.timeout."
    # If less time was spent at this file, no file is stuck: the worker is slow
    if isinstance(dataset, SkipBadFiles) and dataset.seconds_at(process) >= seconds / 2:
        return f"{about} {_give_up(dataset, process, f'it kept a worker busy for {seconds:g} s')}"
    return (
        f"{about} Set a longer timeout, smaller batches, or more workers ({key}.num_workers={dataloader.num_workers})."
    )


def _give_up(dataset: object, process: int, reason: str) -> str:
    """List the file that a worker was reading as bad, if the data set has such a list. Return advice for the user."""
    if not isinstance(dataset, SkipBadFiles) or dataset.file_at(process) is None:
        return "Remove the file from the annotations."
    dataset.give_up(process, reason)
    return f"It is listed in {dataset.list_file}: continue without it by --resume."


def _with_signal(error: Exception) -> Exception:
    """Return the later error that names the signal which ended a worker; if there is none, return ``error``."""
    if not isinstance(error, OSError | EOFError) and "exited unexpectedly" not in str(error):
        return error
    try:
        time.sleep(_PATIENCE)
    except RuntimeError as later:
        return later
    # torch's exception is lost if the signal arrives during a destructor. The exit code of the process remains.
    loading = _loading_of(error)
    for worker in loading._workers if loading is not None else ():
        if worker.exitcode is not None and worker.exitcode < 0:
            name = signal.strsignal(-worker.exitcode)
            return RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal: {name}")
    return error


def _loading_of(error: Exception) -> _MultiProcessingDataLoaderIter | None:
    """Return the iterator that holds the workers of the dataloader which raised an exception."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(loading := frame.f_locals.get("self"), _MultiProcessingDataLoaderIter):
            return loading
    return None


def _doing(dataset: object, process: int) -> str:
    """Return a text with the file that a worker was reading, or "" if the data set does not know it."""
    path = dataset.file_at(process) if isinstance(dataset, SkipBadFiles) else None
    return f", at {path}" if path else ""
