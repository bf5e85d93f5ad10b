"""Official archives: tar, tar.gz and zip files, some of them in parts, some of them with tar files inside."""

import gzip
import io
import os
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from maskfeat_plugin.errors import ConfigError, describe

from .files import partial_name
from .parallel import progress_bar

# An archive is the sequence of its parts, of one part as a rule.
Archive = Sequence[Path]
# A file of an archive: its path in the folder, its length, how to open it, how far into the archive that is.
Member = tuple[str, int, Callable[[], IO[bytes]], int]

_DAMAGES = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)
# A class of ImageNet: its images go into a folder of this name.
_CLASS_TAR = re.compile(r"n\d{8}")


def unpack(archives: Sequence[Archive], folder: Path, progress: bool = True) -> None:
    """Unpack archives into a folder, which is there only when it is complete.

    The folders inside an archive are left out; a tar file inside becomes a folder. After an interruption the files that
    are there are not written again.

    Args:
        archives (Sequence[Archive]): The archives.
        folder (Path): Where to; left alone if it is there.
        progress (bool): Whether to show a bar. Defaults to True.

    Raises:
        ConfigError: If an archive is damaged or holds two files of one name.
    """
    if folder.exists():
        return
    partial = partial_name(folder)
    partial.mkdir(parents=True, exist_ok=True)
    size = sum(part.stat().st_size for archive in archives for part in archive)
    written: set[str] = set()
    with progress_bar(size, folder.name, "B", progress) as bar:
        for archive in archives:
            before = bar.n
            with _opened(archive) as members:
                for member, length, read, position in members:
                    if member in written:
                        raise ConfigError(f"{archive[0]} holds two files {member}; unpack it by hand.")
                    written.add(member)
                    _write_member(partial / member, length, read, archive)
                    bar.update(max(0, before + position - bar.n))
    os.replace(partial, folder)


def read_member(archive: Archive, name: str) -> bytes | None:
    """The content of a file in an archive, wherever it is inside, or None.

    Raises:
        ConfigError: If the archive is damaged.
    """
    with _opened(archive) as members:
        for member, _, read, _ in members:
            if PurePosixPath(member).name == name:
                with read() as file:
                    return file.read()
    return None


def join_parts(parts: Sequence[Path]) -> Archive:
    """An archive from its parts, whose names end with consecutive numbers.

    Raises:
        ConfigError: If one is missing.
    """
    parts = sorted(parts, key=lambda part: part.name)
    numbers = [int(re.search(r"\d+$", part.name)[0]) for part in parts]
    if numbers != list(range(len(parts))):
        lacking = min(set(range(max(numbers) + 1)) - set(numbers), default=None)
        raise ConfigError(
            f"{parts[0].parent}: the parts of {parts[0].name[:-3]} are numbered {numbers}"
            + ("." if lacking is None else f"; number {lacking} is missing.")
        )
    return parts


class _JoinedFile(io.RawIOBase):
    """The parts of a file, one after the other."""

    def __init__(self, parts: Archive) -> None:
        self._files = [open(part, "rb") for part in parts]
        self._starts = [0]
        for part in parts:
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

    def readinto(self, buffer: memoryview) -> int:
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
    """The files of an archive; whatever is wrong with it while they are read is one error."""
    name, stem = archive[0].name, archive[0].stem
    try:
        with io.BufferedReader(_JoinedFile(archive), 1 << 20) as raw:
            if name.lower().endswith(".zip"):
                yield _zip_members(raw)
            else:
                yield _tar_members(raw, f"{stem}/" if _CLASS_TAR.fullmatch(stem) else "")
    except _DAMAGES as error:
        raise ConfigError(f"{archive[0]} is damaged or no archive ({describe(error)}); download it again.") from error


def _zip_members(raw: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(raw) as file:
        for info in file.infolist():
            base = PurePosixPath(info.filename).name
            if not info.is_dir() and not base.startswith("."):
                yield base, info.file_size, lambda info=info: file.open(info), info.header_offset + info.compress_size


def _tar_members(raw: IO[bytes], prefix: str) -> Iterator[Member]:
    with tarfile.open(fileobj=raw, mode="r:*") as file:
        for member in file:
            base = PurePosixPath(member.name).name
            if not member.isfile() or base.startswith("."):
                continue
            if base.endswith(".tar"):
                for path, length, read, _ in _tar_members(file.extractfile(member), f"{base[:-4]}/"):
                    yield path, length, read, raw.tell()
            else:
                yield prefix + base, member.size, lambda member=member: file.extractfile(member), raw.tell()


def _write_member(path: Path, length: int, read: Callable[[], IO[bytes]], archive: Archive) -> None:
    if path.is_file() and path.stat().st_size == length:
        return
    path.parent.mkdir(exist_ok=True)
    with read() as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    if path.stat().st_size != length:
        raise ConfigError(f"{archive[0]} is damaged: {path.name} is cut off; download it again.")
