"""Files and folders that get their names once the disk has them, and digests of files.

A name stands for the old file or for the whole new one.
"""

import errno
import glob
import hashlib
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeGuard

from .errors import ConfigError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CHUNK = 1 << 22  # bytes that are read at once
_PROBE = 1 << 16  # bytes; more than what a library may leave free when its write fails


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Write a file that is whole or not there, with one error if it cannot be written. See :func:`whole_file`.

    Args:
        path (str | Path): Its name. The folder is made if it is missing.

    Yields:
        Path: The file to write instead.

    Raises:
        WriteError: If it cannot be written, as on a full disk.
    """
    with naming(path), whole_file(path) as unfinished:
        yield unfinished


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn the system's error into one that names a file.

    Args:
        path (str | Path): What is written in the block.

    Raises:
        WriteError: If the block raises an ``OSError``; its own ``ConfigError`` stays as it is.
    """
    try:
        yield
    except ConfigError:
        raise
    except OSError as error:
        advice = "Make room there, or name another place." if is_full_disk(error) else "Name another place."
        raise WriteError(f"{path} cannot be written: {reason_of(error, path)}. {advice}") from error


def is_full_disk(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error is that of a full disk, a quota or a limit of the size of files."""
    return isinstance(error, OSError) and error.errno in _FULL


def reason_of(error: OSError, path: str | Path) -> str:
    """Return the reason that a file cannot be written; of a full disk, the room that is there without the file.

    Args:
        error (OSError): What was raised.
        path (str | Path): The file.
    """
    # libraries have longer texts, and numbers of their own
    number = error.errno or 0
    reason = os.strerror(number) if number in errno.errorcode else error.strerror or str(error)
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        reason = str(error.args[0][0][-1])  # of the first of the files of a folder
    if error.errno == errno.ENOSPC:
        with suppress(OSError):
            reason += f" ({shutil.disk_usage(Path(path).parent).free / 1e6:.0f} MB are free without it)"
    return reason


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file at :func:`unfinished_path`; it gets its name at the end of the block, once the disk has it.

    If the block or the disk fails, what is written is removed. What killed processes have left in the folder, of files
    with the same ending, is removed before. A process that writes the same file is waited for.

    Args:
        path (str | Path): Its name. The folder is made if it is missing.

    Yields:
        Path: The file to write instead, which is there and empty. It may be opened anew, but not replaced.

    Raises:
        OSError: If it cannot be written. Libraries that raise something else on a full disk are seen through.
    """
    path, unfinished = Path(path), unfinished_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path.parent, path.suffix)
    with _holding(unfinished):
        try:
            yield unfinished
            publish(path)
        except BaseException as error:
            try:
                if isinstance(error, Exception) and not isinstance(error, ConfigError | OSError):
                    _check_room(unfinished)
            finally:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)
            raise


def append_text(path: str | Path, text: str) -> None:
    """Append text to a file, all of it or nothing.

    Args:
        path (str | Path): The file; made if it is missing.
        text (str): Written as UTF-8.

    Raises:
        OSError: If it cannot be written.
    """
    with open(path, "ab", buffering=0) as file:
        length = file.seek(0, os.SEEK_END)
        left = memoryview(text.encode("utf-8", "surrogateescape"))
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            with suppress(OSError):
                file.truncate(length)
            raise


def unfinished_path(path: str | Path) -> Path:
    """Return where a file or folder is written before it is whole: beside, under a name that nothing reads."""
    path = Path(path)
    return path.with_name(f".{path.name}.unfinished")


def replaced_path(path: str | Path) -> Path:
    """Return where a folder stands while another takes its name. No system replaces one folder by another at once."""
    path = Path(path)
    return path.with_name(f".{path.name}.replaced")


def publish(path: str | Path) -> None:
    """Give what is written at :func:`unfinished_path` its name, once the disk has it.

    Whatever happens, and whenever the machine stops, the name stands for the old file or for the whole new one. For a
    folder that replaces another this needs :func:`restore`.

    Args:
        path (str | Path): Its name, of a file or a folder.

    Raises:
        OSError: If the disk does not take it, or a file has the name of a folder.
    """
    path, unfinished, replaced = Path(path), unfinished_path(path), replaced_path(path)
    for inner in [*unfinished.rglob("*"), unfinished]:
        _sync_folder(inner) if inner.is_dir() else sync(inner)
    restore(path)
    if path.is_dir() and unfinished.is_dir():
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(path, replaced)
    os.replace(unfinished, path)
    _sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def restore(path: str | Path) -> None:
    """Give a folder its name back if the process that replaced it ended in between.

    Args:
        path (str | Path): Its name.

    Raises:
        OSError: If it cannot be renamed.
    """
    path, replaced = Path(path), replaced_path(path)
    if replaced.is_dir() and not path.exists():
        try:
            os.replace(replaced, path)
        except FileNotFoundError:  # another process was faster
            pass


def remove_left_over(folder: Path, suffix: str = "") -> None:
    """Remove unfinished files that no process is writing. Where the file system has no locks, none is removed.

    Args:
        folder (Path): Where they are.
        suffix (str): Ending of their final names. Defaults to "", any.
    """
    for path in folder.glob(f".*{glob.escape(suffix)}.unfinished"):
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError):  # another process holds it, or has removed it
            if fcntl is None:  # Windows removes no file that is open
                path.unlink()
                continue
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(file, path):
                    path.unlink()
            finally:
                os.close(file)


def sync(file: str | Path) -> None:
    """Bring a file to the disk.

    Args:
        file (str | Path): A file that is written.

    Raises:
        OSError: If the disk does not take it.
    """
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


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


def check_zip_directory(archive: zipfile.ZipFile) -> None:
    """Check that a zip file's directory has as many entries as its end says.

    zipfile does not look: a damaged length in the directory hides entries from it.

    Args:
        archive (zipfile.ZipFile): Open for reading; left at any place.

    Raises:
        zipfile.BadZipFile: If not.
    """
    file = archive.fp
    if file is None:
        raise ValueError(f"{archive.filename} is closed.")
    length = file.seek(0, 2)
    file.seek(max(0, length - (1 << 16) - 100))  # a comment of 64 KiB may follow
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    (count,) = struct.unpack_from("<10xH", tail, end)
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\6\7" and tail[end - 76 : end - 72] == b"PK\6\6":
        (count,) = struct.unpack_from("<32xQ", tail, end - 76)
    if count != len(archive.infolist()):
        raise zipfile.BadZipFile(f"its directory has {len(archive.infolist())} entries and not {count}")


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some file systems of networks cannot, and need not
        pass
    finally:
        os.close(handle)


def _check_room(unfinished: Path) -> None:
    """Raise the system's error if a file cannot grow."""
    with open(unfinished, "ab") as file:
        file.write(bytes(_PROBE))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _holding(unfinished: Path) -> Iterator[None]:
    """Make an empty file and hold it, so that no other process writes to it or takes it for left over."""
    if fcntl is None:
        unfinished.unlink(missing_ok=True)
        yield
        return
    file = _lock(unfinished)
    try:
        yield
    finally:
        os.close(file)


def _lock(path: Path) -> int:
    """Return a descriptor that holds the file until it is closed, or its process ends."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):  # else whoever held it has given it its name, or removed it
                if stat.S_ISREG(os.fstat(file).st_mode):
                    os.ftruncate(file, 0)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Check whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
