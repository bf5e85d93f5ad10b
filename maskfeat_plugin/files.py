"""Digests and locks of files, and the directory of zip files."""

import errno
import hashlib
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_CHUNK = 1 << 22  # bytes


def sha256(files: Iterable[str | Path]) -> str:
    """Compute the SHA-256 of files, one after the other, without holding them in memory.

    Args:
        files (Iterable[str | Path]): The files, in the order that counts.

    Returns:
        str: In hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file, so that no other process of this machine is in the block; it ends with the process.

    Args:
        path (Path): The lock file; it stays.

    Yields:
        bool: False where there are no locks, as on Windows or in a folder that cannot be written to.
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
    """Hold a lock file if no other process does; processes that this one forks do not hold it.

    Args:
        path (Path): The lock file; it stays.

    Yields:
        bool: Whether it is held; False where there are no locks, as on Windows.
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
    """Claims of processes on numbered pieces of work, by locks on the bytes of one file; they end with the process.

    Processes that this one forks do not hold its claims. Where there are no locks, as on Windows, every claim succeeds.

    Args:
        path (Path): The lock file; it is made and stays. A process opens it once: closing a file ends all locks of the
            process on it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, number: int) -> bool:
        """Claim a piece.

        Args:
            number (int): Its number, from 0 to 2 ** 62.

        Returns:
            bool: False if another process holds it.
        """
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:  # others: the file system has no locks
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


def check_zip_directory(archive: zipfile.ZipFile) -> None:
    """Check that a zip file's directory has as many entries as its end says.

    zipfile does not look: a damaged length in the directory hides entries from it.

    Args:
        archive (zipfile.ZipFile): Open for reading; left at any place.

    Raises:
        zipfile.BadZipFile: If not.
    """
    file = archive.fp
    length = file.seek(0, 2)
    file.seek(max(0, length - (1 << 16) - 100))  # a comment of 64 KiB may follow
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    (count,) = struct.unpack_from("<10xH", tail, end)
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\6\7" and tail[end - 76 : end - 72] == b"PK\6\6":
        (count,) = struct.unpack_from("<32xQ", tail, end - 76)
    if count != len(archive.infolist()):
        raise zipfile.BadZipFile(f"its directory has {len(archive.infolist())} entries and not {count}")
