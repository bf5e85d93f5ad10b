"""Functions that write files and folders safely, and digests of files.

A file gets its name only after its data are on the disk. The name therefore always refers to the old file or to the
whole new one.
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
_PROBE = 1 << 16  # bytes; more than a library may leave free when its write fails


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Write a file completely or not at all, and raise one kind of error if that fails. See :func:`whole_file`.

    Args:
        path (str | Path): The final name of the file. A missing folder is made.

    Yields:
        Path: The file to write to in the block.

    Raises:
        WriteError: If the file cannot be written, for example on a full disk.
    """
    with naming(path), whole_file(path) as unfinished:
        yield unfinished


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into an error that names a file.

    Args:
        path (str | Path): The file or folder that the block writes.

    Raises:
        WriteError: If the block raises an ``OSError``. A ``ConfigError`` of the block itself passes unchanged.
    """
    try:
        yield
    except ConfigError:
        raise
    except OSError as error:
        advice = "Make room there, or name another place." if is_full_disk(error) else "Name another place."
        raise WriteError(f"{path} cannot be written: {reason_of(error, path)}. {advice}") from error


def is_full_disk(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error means a full disk, an exceeded quota or a too large file."""
    return isinstance(error, OSError) and error.errno in _FULL


def reason_of(error: OSError, path: str | Path) -> str:
    """Return the reason why a file cannot be written. For a full disk it includes the free space.

    Args:
        error (OSError): The error that was raised.
        path (str | Path): The file.
    """
    # Texts of libraries are longer, and some error numbers belong to a library
    number = error.errno or 0
    reason = os.strerror(number) if number in errno.errorcode else error.strerror or str(error)
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        reason = str(error.args[0][0][-1])  # the reason for the first file of the folder that failed
    if error.errno == errno.ENOSPC:
        with suppress(OSError):
            reason += f" ({shutil.disk_usage(Path(path).parent).free / 1e6:.0f} MB are free without it)"
    return reason


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write a file at :func:`unfinished_path` and rename it at the end of the block, when its data are on the disk.

    If the block or the disk fails, the unfinished file is removed. Unfinished files with the same ending that killed
    processes have left in the folder are removed first. If another process writes the same file, this one waits for it.

    Args:
        path (str | Path): The final name of the file. A missing folder is made.

    Yields:
        Path: The file to write to in the block. It exists and is empty. It may be opened again, but not replaced.

    Raises:
        OSError: If the file cannot be written. This includes a full disk that a library reports as another exception.
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
    """Append the whole text to a file, or nothing.

    Args:
        path (str | Path): The file; created if it is missing.
        text (str): Written as UTF-8.

    Raises:
        OSError: If the text cannot be written.
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
    """Return the path of a file or folder until it is complete: in the same folder, under a name that nothing reads."""
    path = Path(path)
    return path.with_name(f".{path.name}.unfinished")


def replaced_path(path: str | Path) -> Path:
    """Return the path that a folder has while it is replaced. No system replaces one folder by another in one step."""
    path = Path(path)
    return path.with_name(f".{path.name}.replaced")


def publish(path: str | Path) -> None:
    """Give the file or folder at :func:`unfinished_path` its final name, when its data are on the disk.

    Even if the machine stops in between, the name refers to the old file or to the whole new one. For a folder that
    replaces another one, :func:`restore` has to be called after such a stop.

    Args:
        path (str | Path): The final name of the file or folder.

    Raises:
        OSError: If the disk does not accept the data, or if a file already has the folder's name.
    """
    path, unfinished = Path(path), unfinished_path(path)
    for inner in [*unfinished.rglob("*"), unfinished]:
        _sync_folder(inner) if inner.is_dir() else sync(inner)
    move_into_place(unfinished, path)
    _sync_folder(path.parent)


def move_into_place(unfinished: Path, path: Path) -> None:
    """Rename a file or folder to its final name, without waiting for the disk. A folder may replace another folder.

    :func:`publish` also waits. Use this function for data that can be made again, such as unpacked archives.

    Args:
        unfinished (Path): The complete file or folder, on the same file system.
        path (Path): Its final name.

    Raises:
        OSError: If it cannot be renamed. A folder that was to be replaced then keeps its name.
    """
    restore(path)
    if not (path.is_dir() and unfinished.is_dir()):
        os.replace(unfinished, path)
        return
    replaced = replaced_path(path)
    shutil.rmtree(replaced, ignore_errors=True)
    os.replace(path, replaced)
    try:
        os.replace(unfinished, path)
    finally:
        restore(path)
        shutil.rmtree(replaced, ignore_errors=True)


def restore(path: str | Path) -> None:
    """Rename a folder back if the process that was replacing it ended too early.

    Args:
        path (str | Path): The name of the folder.

    Raises:
        OSError: If the folder cannot be renamed.
    """
    path, replaced = Path(path), replaced_path(path)
    if replaced.is_dir() and not path.exists():
        try:
            os.replace(replaced, path)
        except FileNotFoundError:  # another process was faster
            pass


def remove_left_over(folder: Path, suffix: str = "") -> None:
    """Remove unfinished files that no process is writing. On a file system without locks, none is removed.

    Args:
        folder (Path): The folder of the files.
        suffix (str): The ending of their final names. Defaults to "", any ending.
    """
    for path in folder.glob(f".*{glob.escape(suffix)}.unfinished"):
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError):  # another process holds the file, or has removed it
            if fcntl is None:  # Windows does not remove open files
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
    """Write the data of a file from the system's cache to the disk.

    Args:
        file (str | Path): A file that was written.

    Raises:
        OSError: If the disk does not accept the data.
    """
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())


def sha256(files: Iterable[str | Path]) -> str:
    """Compute the SHA-256 of the joined contents of files, without holding them in memory.

    Args:
        files (Iterable[str | Path]): The files. The result depends on their order.

    Returns:
        str: The SHA-256 in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def check_zip_directory(archive: zipfile.ZipFile) -> None:
    """Check that the directory of a zip file has as many entries as the record at the end of the file says.

    ``zipfile`` does not check this. If a length in the directory is damaged, it does not see all entries.

    Args:
        archive (zipfile.ZipFile): An archive that is open for reading. Its position in the file changes.

    Raises:
        zipfile.BadZipFile: If the numbers differ.
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
        raise zipfile.BadZipFile(f"its directory has {len(archive.infolist())} entries instead of {count}")


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems do not support this, and do not need it
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
    """Create an empty file and lock it, so that no other process writes to it or removes it as left over."""
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
    """Lock a file and return its descriptor. The lock ends when the descriptor is closed or the process ends."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with suppress(OSError):  # a file system that has no locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):  # else the process that held the lock has renamed or removed the file
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
