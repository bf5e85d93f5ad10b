"""File backend of mmengine that reads one member of a tar file, from a disk or from object storage.

If the environment variable ``MASKFEAT_SHARDS`` names a folder, a shard in object storage is copied there when one of
its members is first read. All processes of the machine use the copy. The copies are not removed.
"""

import hashlib
import os
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

from mmengine.fileio import BaseStorageBackend, register_backend

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing
from maskfeat_plugin.locks import locked
from maskfeat_plugin.storage import FsspecBackend

COPIES = "MASKFEAT_SHARDS"
PREFIX = "tar"
_BLOCK = tarfile.BLOCKSIZE  # the header that precedes the data of each member
_URI = re.compile(PREFIX + r"://(.+?\.tar)@(\d+)\+(\d+)/(.+)", re.DOTALL)
# Names that tar stores unchanged in the header of the member itself
_PLAIN_NAME = 100


class Member(NamedTuple):
    """Place of a member of a tar file.

    Args:
        shard (str): Path or URL of the tar file.
        offset (int): First byte of the data.
        size (int): Number of bytes.
        name (str): Name of the member.
    """

    shard: str
    offset: int
    size: int
    name: str

    def uri(self) -> str:
        """Return the path that :class:`TarBackend` reads: ``tar://shard-000000.tar@512+10443/000000012.jpg``.

        mmengine accepts one ``://`` in a path, so ``s3://`` of the shard becomes ``s3:/``.
        """
        shard = self.shard.replace("://", ":/", 1)
        return f"{PREFIX}://{shard}@{self.offset}+{self.size}/{self.name}"


def parse_uri(uri: str) -> Member:
    """Parse the path of a member.

    Args:
        uri (str): The result of :meth:`Member.uri`.

    Raises:
        ValueError: If the text has another form.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise ValueError(f"{uri!r} is not the path of a member of a tar file.")
    shard, offset, size, name = found.groups()
    return Member(re.sub(r"^([a-z0-9+:]{2,}):/(?!/)", r"\1://", shard), int(offset), int(size), name)


def is_member(path: str) -> bool:
    """Check whether a path is the path of a member of a tar file."""
    return path.startswith(f"{PREFIX}://")


def is_url(path: str) -> bool:
    """Check whether a path is a URL, and not a local path."""
    return "://" in path


@register_backend(PREFIX, prefixes=PREFIX)
class TarBackend(BaseStorageBackend):
    """Reader of members of tar files. ``mmengine.fileio.get`` uses it for paths of :meth:`Member.uri`.

    So each transform that reads its file through ``mmengine.fileio`` reads members too, for example
    ``mmcv.LoadImageFromFile``. A member costs one read, or one range request to object storage.
    """

    def get(self, filepath: str) -> bytes:
        """Read a member. The header before its data is checked.

        Args:
            filepath (str): The path, see :meth:`Member.uri`.

        Raises:
            ValueError: If the shard is cut short, damaged at this place, or other than when its index was written.
            OSError: If the shard cannot be read.
            StorageError: If the storage of the shard cannot be used.
        """
        member = parse_uri(str(filepath))
        content = read_range(_local_copy(member.shard), member.offset - _BLOCK, member.offset + member.size)
        if len(content) < _BLOCK + member.size:
            raise ValueError(f"{filepath}: the shard is cut short.")
        if not _is_header_of(content[:_BLOCK], member):
            raise ValueError(f"{filepath}: the shard is damaged here, or has changed since its index was written.")
        return content[_BLOCK:]

    def get_text(self, filepath: str, encoding: str = "utf-8") -> str:
        """Read a member as text.

        Args:
            filepath (str): The path, see :meth:`Member.uri`.
            encoding (str): The encoding. Defaults to "utf-8".
        """
        return self.get(filepath).decode(encoding)


def read_range(path: str, start: int, stop: int) -> bytes:
    """Read the bytes [start, stop) of a file; fewer if the file is shorter.

    Args:
        path (str): Local path, or URL for fsspec.
        start (int): First byte.
        stop (int): Byte after the last one.

    Raises:
        StorageError: If the storage of a URL cannot be used.
        OSError: If the file cannot be read.
    """
    if is_url(path):
        return FsspecBackend().call(path, lambda system, inner: system.cat_file(inner, start=start, end=stop))
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        return file.read(stop - start)


def file_size(path: str) -> int:
    """Return the size of a local file or of an object, in bytes.

    Raises:
        ConfigError: If it does not exist or cannot be reached. The message names it.
    """
    try:
        if is_url(path):
            return FsspecBackend().call(path, lambda system, inner: system.size(inner))
        return Path(path).stat().st_size
    except Exception as error:  # each kind of storage raises errors of its own
        raise ConfigError(f"the shard {path} cannot be read ({type(error).__name__}: {error}).") from error


def _local_copy(shard: str) -> str:
    """Return the path of the copy of a remote shard; the shard itself if it is local, or if no copies are wanted."""
    folder = os.environ.get(COPIES)
    if not folder or not is_url(shard):
        return shard
    path = Path(folder, f"{hashlib.sha256(shard.encode()).hexdigest()[:32]}.tar")
    if not path.is_file():
        with locked(path.with_suffix(".lock")):
            if not path.is_file():  # no other process was faster
                with writing(path) as unfinished:
                    FsspecBackend().copyfile_to_local(shard, unfinished)
    return str(path)


def _is_header_of(block: bytes, member: Member) -> bool:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    is_plain = member.name.isascii() and len(member.name) < _PLAIN_NAME
    return info.size == member.size and (info.name == member.name or not is_plain)
