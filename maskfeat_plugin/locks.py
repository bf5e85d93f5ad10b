"""Locks on folders that only one process may write to."""

import errno
import os
import socket
import time
from pathlib import Path

from maskfeat_plugin.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = ".in-use"


def hold_folder(folder: str | Path) -> None:
    """Hold a folder until this process ends, however it ends; holding it twice changes nothing.

    The lock belongs to the process and not to those that it forks. So the kernel frees it when a training is killed,
    even if workers of its dataloaders live on. Where the system or the file system has no locks, nothing is held.

    Args:
        folder (str | Path): The folder; it is made if it is not there.

    Raises:
        ConfigError: If another process holds it.
    """
    if fcntl is None:
        return
    path = Path(folder, _NAME)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # a folder that cannot be written to is reported where something is written
        return
    # never closed: closing any descriptor of a file frees the locks of the process on it
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return
        owner = os.read(file, 200).decode(errors="replace").strip()
        raise ConfigError(
            f"work_dir: {folder} is in use by another training{owner and f' ({owner})'}. Wait until it ends, or give "
            "another folder with --work-dir."
        ) from error
    try:
        os.ftruncate(file, 0)
        text = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.pwrite(file, text.encode(), 0)
    except OSError:  # a full disk; the lock holds without the text
        return
