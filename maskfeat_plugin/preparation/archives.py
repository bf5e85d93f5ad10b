"""Official archives: tar, tar.gz and zip files, some of them in parts, some of them with tar files inside.

Every archive is read to its end, because the checksums of gzip, bzip2 and xz are there. A damaged archive leaves no
files behind.
"""

import bz2
import errno
import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.files import check_zip_directory, move_into_place, naming, unfinished_path

from .files import write_file
from .parallel import progress_bar

if TYPE_CHECKING:
    from typing_extensions import Buffer  # of collections.abc from Python 3.12 on

# An archive is the sequence of its parts. Most archives have one part.
Archive = Sequence[Path]
# A file in an archive: its path in the folder, its length, a function that opens it, its position in the archive
Member = tuple[str, int, Callable[[], IO[bytes]], int]

_CHUNK = 1 << 20  # bytes
# The first bytes of a compressed tar file, and the function that reads it
_DECOMPRESSORS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
# The tar file of an ImageNet class: its images go into a folder of the same name
_CLASS_TAR = re.compile(r"n\d{8}")


def unpack(archives: Sequence[Archive], folder: Path, progress: bool = True) -> None:
    """Unpack archives into a folder. The folder gets its name only when it is complete.

    Folders inside an archive are ignored; a tar file inside becomes a folder. After an interruption, files that exist
    with the same content as in the archive are not written again. After an error, nothing is left.

    Args:
        archives (Sequence[Archive]): The archives.
        folder (Path): The target folder. If it exists, it is not changed.
        progress (bool): Whether to show a bar. Defaults to True.

    Raises:
        ConfigError: If an archive is damaged or has two files of the same name, if the folder was unpacked from another
            archive, or if the disk is full.
    """
    if folder.exists():
        _check_origin(archives, folder)
        return
    unfinished = unfinished_path(folder)
    try:
        with naming(folder):
            unfinished.mkdir(parents=True, exist_ok=True)
            _unpack_all(archives, unfinished, folder.name, progress)
            write_file(_origin_path(folder), _origin(archives))
            move_into_place(unfinished, folder)
    except ConfigError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _unpack_all(archives: Sequence[Archive], folder: Path, title: str, progress: bool) -> None:
    """Write the files of archives to a folder."""
    size = sum(part.stat().st_size for archive in archives for part in archive)
    written: set[str] = set()
    with progress_bar(size, title, "B", progress) as bar:
        for archive in archives:
            before = bar.n
            with _opened(archive) as members:
                for member, length, read, position in members:
                    if member in written:
                        raise ConfigError(f"{archive[0]} holds two files {member}. Unpack it by hand.")
                    written.add(member)
                    _write_member(folder / member, length, read, archive)
                    bar.update(max(0, before + position - bar.n))


def read_member(archive: Archive, name: str) -> bytes | None:
    """Read a file in an archive, in any folder inside it.

    Args:
        archive (Archive): The archive.
        name (str): Name of the file, without folders.

    Returns:
        bytes | None: The content; None if the archive has no such file.

    Raises:
        ConfigError: If the archive is damaged.
    """
    content = None
    with _opened(archive) as members:
        for member, _, read, _ in members:
            with read() as file:  # for a zip file, opening a member compares its two headers
                if content is None and PurePosixPath(member).name == name:
                    content = file.read()
    return content


def join_parts(parts: Sequence[Path]) -> Archive:
    """Build an archive from its parts, whose names end with consecutive numbers.

    Raises:
        ConfigError: If a part is missing.
    """
    parts = sorted(parts, key=lambda part: part.name)
    numbers = [int(digits) for part in parts for digits in re.findall(r"\d+$", part.name)]
    if numbers != list(range(len(parts))):
        lacking = next((i for i, number in enumerate(sorted(set(numbers))) if i != number), None)
        raise ConfigError(
            f"{parts[0].parent}: the parts of {parts[0].name[:-3]} are numbered {numbers}"
            + ("." if lacking is None else f". Add the part with number {lacking}.")
        )
    return parts


class _JoinedFile(io.RawIOBase):
    """File that consists of several parts, one after the other."""

    def __init__(self, parts: Archive) -> None:
        self._files = []
        self._starts = [0]
        for part in parts:
            self._files.append(open(part, "rb"))
            self._starts.append(self._starts[-1] + part.stat().st_size)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: "Buffer") -> int:
        for file, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            if start <= self._position < end:
                file.seek(self._position - start)
                count = file.readinto(buffer)
                self._position += count
                return count
        return 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


@contextmanager
def _opened(archive: Archive) -> Iterator[Iterator[Member]]:
    """Open an archive and give its files. Any error while they are read becomes a :class:`ConfigError`."""
    name, stem = archive[0].name, archive[0].stem
    try:
        with io.BufferedReader(_JoinedFile(archive), _CHUNK) as raw:
            if name.lower().endswith(".zip"):
                yield _zip_members(raw)
            else:
                yield _tar_members(raw, f"{stem}/" if _CLASS_TAR.fullmatch(stem) else "")
    except ConfigError:
        raise
    except Exception as error:  # the parsers can raise any error
        if isinstance(error, OSError) and error.errno:
            raise ConfigError(f"{archive[0]} cannot be read: {error.strerror}.") from error
        raise ConfigError(f"{archive[0]} is damaged or no archive ({describe(error)}). Download it again.") from error


def _zip_members(raw: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as file:
        check_zip_directory(file)
        for info in file.infolist():
            base = PurePosixPath(info.filename).name
            if info.is_dir() or base.startswith("."):
                _drain(file.open(info))  # a damaged name can make a file look like a folder or a file with a dot
            else:
                yield base, info.file_size, partial(file.open, info), info.header_offset + info.compress_size


class _Header(tarfile.TarInfo):
    """Header that raises an error if it is damaged or missing. tarfile would treat it as the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} before its end") from None


def _tar_members(raw: IO[bytes], prefix: str) -> Iterator[Member]:
    start = raw.read(6)
    raw.seek(0)
    decompress = next((function for magic, function in _DECOMPRESSORS if start.startswith(magic)), None)
    stream = decompress(raw) if decompress else raw
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as file:
        for member in file:
            base = PurePosixPath(member.name).name
            if member.size < 0:
                raise tarfile.ReadError("negative length")
            if not member.isfile() or base.startswith("."):
                continue
            if base.endswith(".tar"):
                for path, length, read, _ in _tar_members(_open_member(file, member), f"{base[:-4]}/"):
                    yield path, length, read, raw.tell()
            else:
                yield prefix + base, member.size, partial(_open_member, file, member), raw.tell()
        if _drain(stream):
            raise tarfile.ReadError("data after its end")


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise tarfile.ReadError(f"{member.name} is no file")
    return file


def _drain(file: IO[bytes] | io.BufferedIOBase) -> bool:
    """Read a file to its end, where checksums are compared. Return whether it had any bytes other than zero."""
    found = False
    while chunk := file.read(_CHUNK):
        found = found or chunk.count(0) < len(chunk)
    return found


def _write_member(path: Path, length: int, read: Callable[[], IO[bytes]], archive: Archive) -> None:
    try:
        if path.is_file() and path.stat().st_size == length and _has_content(path, read):
            return
        path.parent.mkdir(exist_ok=True)
        with read() as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    except OSError as error:
        if error.errno in (None, errno.EIO):  # an error of the archive, not of the folder
            raise
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    if path.stat().st_size != length:
        raise ConfigError(f"{archive[0]} is damaged: {path.name} is cut off. Download it again.")


def _has_content(path: Path, read: Callable[[], IO[bytes]]) -> bool:
    """Check whether a file of an interrupted run equals the archive's. The archive may have been replaced since."""
    with read() as source, open(path, "rb") as file:
        same = True
        while chunk := source.read(_CHUNK):
            same = same and file.read(len(chunk)) == chunk
    return same


def _origin_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unpacked")


def _origin(archives: Sequence[Archive]) -> bytes:
    """Compute a digest of the lengths, beginnings and ends of archives. It is a quick way to distinguish archives."""
    lines = []
    for part in (part for archive in archives for part in archive):
        size = part.stat().st_size
        with open(part, "rb") as file:
            ends = file.read(1 << 16)
            file.seek(max(0, size - (1 << 16)))
            ends += file.read()
        lines.append(f"{size} {hashlib.sha256(ends).hexdigest()}\n")
    return "".join(lines).encode()


def _check_origin(archives: Sequence[Archive], folder: Path) -> None:
    """Check that a folder was unpacked from the given archives, if its origin is known."""
    path = _origin_path(folder)
    if path.is_file() and path.read_bytes() != _origin(archives):
        raise ConfigError(
            f"{folder} was unpacked from another archive than {archives[0][0]}; remove {folder}, or give its archive."
        )
