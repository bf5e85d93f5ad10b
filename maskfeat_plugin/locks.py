"""Locks of processes on folders, on files and on pieces of work; the system frees them when the process ends."""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from maskfeat_plugin.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = ".in-use"


def hold_folder(folder: str | Path) -> None:
    """Lock a folder until this process ends, normally or not. Locking it twice changes nothing.

    The lock belongs to this process and not to forked children. The kernel therefore frees it when a training is
    killed, even if its dataloader workers still run. If the system or the file system has no locks, nothing is locked.

    Args:
        folder (str | Path): The folder; created if it is missing.

    Raises:
        ConfigError: If another process has locked the folder.
    """
    if fcntl is None:
        return
    path = Path(folder, _NAME)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # a folder that cannot be written to is reported later, at the first write
        return
    # Never closed: closing any descriptor of a file ends the locks of this process on that file
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return
        owner = os.read(file, 200).decode(errors="replace").strip()
        raise ConfigError(
            f"work_dir: {folder} is in use by another training{owner and f' ({owner})'}. Wait until that training "
            "ends, or give another folder with --work-dir."
        ) from error
    try:
        os.ftruncate(file, 0)
        text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.pwrite(file, text.encode(), 0)
    except OSError:  # a full disk; the lock works without the text
        return


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock a file, so that only one process of this machine at a time is in the block. The lock ends with the process.

    Args:
        path (Path): The lock file; it is not removed.

    Yields:
        bool: False if there are no locks, as on Windows or in a folder that cannot be written to.
    """
    with ExitStack() as stack:
        got = False
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "wb"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
                got = True
        yield got


@contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Lock a file if no other process has locked it. Forked children of this process do not hold the lock.

    Args:
        path (Path): The lock file; it is not removed.

    Yields:
        bool: Whether the file is locked; False if there are no locks, as on Windows.
    """
    with ExitStack() as stack:
        got = False
        with suppress(OSError):
            file = stack.enter_context(open(path, "wb"))
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                got = True
        yield got


class Claims:
    """Claims of processes on numbered pieces of work: locks on single bytes of one file, which end with the process.

    Forked children of this process do not hold its claims. If there are no locks, as on Windows, every claim succeeds.

    Args:
        path (Path): The lock file; created if it is missing, and not removed. Open it only once in a process: closing a
            file ends all locks of the process on it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, number: int) -> bool:
        """Claim a piece of work.

        Args:
            number (int): The number of the piece, from 0 to 2 ** 62.

        Returns:
            bool: False if another process holds it.
        """
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:  # other error numbers mean that the file system has no locks
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def give_back(self, number: int) -> None:
        """End a claim.

        Args:
            number (int): The number of the piece.
        """
        if fcntl is not None:
            with suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def close(self) -> None:
        """End all claims."""
        os.close(self._file)
