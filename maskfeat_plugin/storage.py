"""Files in object storage (S3, Google Cloud Storage, Hugging Face, HTTP), as a file backend of mmengine on fsspec."""

import errno
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mmengine.fileio import BaseStorageBackend, FileClient, register_backend
from mmengine.logging import print_log

from .errors import ConfigError, describe

PREFIXES = ("s3", "gs", "hf")
# Bytes of one request for a part of a file, and the number of parts that are kept
_BLOCK, _BLOCKS = 1 << 20, 16
_FIRST_WAIT = 0.5  # seconds
# After this time a failed request is not repeated, so that SkipBadFiles gets the error before its own timeout
_LONGEST = 60.0  # seconds
# Packages whose exceptions are faults of the network
_NETWORK = ("aiohttp", "aiobotocore", "botocore", "gcsfs", "httpx", "httpx2", "requests", "urllib3")
_ADVICE = "Check the address, the network and the credentials"

_Result = TypeVar("_Result")


class StorageError(ConfigError):
    """Error of a storage that cannot be used; the message names the object. The object itself may be in order."""

    def __init__(self, message: str) -> None:
        # The message of an exception from a dataloader's worker begins with the worker's traceback: remove it
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


class FsspecBackend(BaseStorageBackend):
    """File backend of mmengine that reads and writes through fsspec.

    mmengine selects it by the prefixes ``s3://``, ``gs://`` and ``hf://``, and by the name "fsspec" for any other
    address that fsspec knows, such as ``https://``. An uploaded object appears when its upload is complete.

    Failed requests are repeated after a growing time, for a minute at most. A refused access, a missing bucket and a
    missing object are not. A server that accepts a connection and never answers is given up after 80 s; s3fs waits
    15 s for each of its 5 tries (``config_kwargs=dict(read_timeout=15)``).

    The environment sets options for all files of a storage, as fsspec reads them: ``FSSPEC_S3`` is a JSON object with
    arguments of ``s3fs.S3FileSystem``, ``FSSPEC_GS`` and ``FSSPEC_HF`` likewise.

    Args:
        retries (int): Number of repetitions, in addition to the repetitions of the storage's own package. Defaults
            to 6.
        **options: Options of the file system, for example ``endpoint_url`` or ``key`` of ``s3fs.S3FileSystem``. They
            precede the options of the environment.

    Raises:
        StorageError: From all methods, if the storage cannot be reached or refuses the access.
        FileNotFoundError: From the methods that read, if the bucket exists, but not the object.
    """

    def __init__(self, retries: int = 6, **options: Any) -> None:
        self.retries = retries
        self.options = options

    def get(self, filepath: str | Path) -> bytes:
        """Return the content of an object."""
        return self.call(filepath, lambda system, path: system.cat_file(path))

    def get_text(self, filepath: str | Path, encoding: str = "utf-8") -> str:
        """Return the content of an object as text."""
        return self.get(filepath).decode(encoding)

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write an object, which replaces an existing one when the upload is complete."""
        self.call(filepath, lambda system, path: system.pipe_file(path, obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text as an object, see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)

    def exists(self, filepath: str | Path) -> bool:
        """Check whether there is an object, or a folder with objects."""
        return self.call(filepath, lambda system, path: system.exists(path))

    def isfile(self, filepath: str | Path) -> bool:
        """Check whether there is an object."""
        return self.call(filepath, lambda system, path: system.isfile(path))

    def isdir(self, filepath: str | Path) -> bool:
        """Check whether there are objects below an address."""
        return self.call(filepath, lambda system, path: system.isdir(path))

    def join_path(self, filepath: str | Path, *filepaths: str | Path) -> str:
        """Join the parts of an address with slashes."""
        return "/".join([str(filepath).rstrip("/"), *(str(part).strip("/") for part in filepaths)])

    def remove(self, filepath: str | Path) -> None:
        """Remove an object."""
        self.call(filepath, lambda system, path: system.rm_file(path))

    def rmtree(self, dir_path: str | Path) -> None:
        """Remove all objects below an address."""
        self.call(dir_path, lambda system, path: system.rm(path, recursive=True))

    def abort_uploads(self, dir_path: str | Path) -> list[str]:
        """Remove the parts of unfinished uploads to a folder, which killed processes leave in S3.

        Call it only if no process uploads to the folder.

        Args:
            dir_path (str | Path): The address of the folder. Its sub-folders are not searched.

        Returns:
            list[str]: The addresses of the objects that the uploads would have become.
        """
        base = str(dir_path).rstrip("/")
        if not base.startswith("s3://"):
            return []

        def work(system: Any, path: str) -> list[str]:
            bucket, _, folder = path.rstrip("/").partition("/")
            found = []
            for upload in system.list_multipart_uploads(bucket):
                parent, _, name = upload["Key"].rpartition("/")
                if parent == folder:
                    system.abort_mpu(bucket, upload["Key"], upload["UploadId"])
                    found.append(f"{base}/{name}")
            return found

        return self.call(base, work)

    @contextmanager
    def get_local_path(self, filepath: str | Path) -> Generator[str, None, None]:
        """Return a context whose value is a temporary local copy."""
        with tempfile.TemporaryDirectory(prefix="maskfeat-") as folder:
            yield self.copyfile_to_local(filepath, Path(folder, os.path.basename(str(filepath))))

    def copyfile_from_local(self, src: str | Path, dst: str | Path) -> str:
        """Upload a file. Return its address."""
        self.call(dst, lambda system, path: system.put_file(str(src), path))
        return str(dst)

    def copyfile_to_local(self, src: str | Path, dst: str | Path) -> str:
        """Download an object. Return the path of the file."""
        self.call(src, lambda system, path: system.get_file(path, str(dst)))
        return str(dst)

    def list_dir_or_file(
        self,
        dir_path: str | Path,
        list_dir: bool = True,
        list_file: bool = True,
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,
    ) -> Iterator[str]:
        """Yield the relative paths of folders and objects below an address, as mmengine's ``LocalBackend``."""
        depth = None if recursive else 1
        found = self.call(
            dir_path, lambda system, path: (path, system.find(path, maxdepth=depth, withdirs=list_dir, detail=True))
        )
        base = found[0].rstrip("/")
        for path, entry in sorted(found[1].items()):
            name = path[len(base) + 1 :]
            is_dir = entry["type"] == "directory"
            if name and (list_dir if is_dir else list_file and (suffix is None or name.endswith(suffix))):
                yield name

    def open(self, filepath: str | Path) -> "RemoteFile":
        """Open an object for reading of parts.

        Args:
            filepath (str | Path): The address.

        Returns:
            RemoteFile: The object as a file.
        """
        return RemoteFile(self, str(filepath))

    def call(self, filepath: str | Path, work: Callable[[Any, str], _Result]) -> _Result:
        """Run a function of a file system, again if it fails for a reason that may pass.

        Args:
            filepath (str | Path): The address.
            work (Callable[[fsspec.AbstractFileSystem, str], Result]): Function of the file system and of the path in
                it.

        Returns:
            Result: The result of the function.

        Raises:
            StorageError: If the storage cannot be used.
            FileNotFoundError: If the bucket exists, but not the object.
        """
        address = str(filepath)
        wait = _FIRST_WAIT
        end = time.monotonic() + _LONGEST
        for left in reversed(range(self.retries + 1)):
            try:
                system, path = self._system(address)
                return work(system, path)
            except FileNotFoundError as error:
                raise self._missing(address) from error
            except Exception as error:  # each storage's package has its own types
                reason = " ".join(describe(error).split())  # Hugging Face's messages have several lines
                if _is_refused(error):
                    raise StorageError(f"{address}: the storage refuses the access ({reason}). {_ADVICE}.") from error
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise  # of a local copy
                if not left or not _may_pass(error) or time.monotonic() > end:
                    raise StorageError(f"{address}: the storage fails ({reason}). {_ADVICE}.") from error
                print_log(f"{address}: {reason}; another try in about {wait:.1f} s", "current")
            time.sleep(wait * random.SystemRandom().uniform(0.5, 1.0))
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def _system(self, address: str) -> tuple[Any, str]:
        """Return the file system of an address and the path in it. fsspec keeps one system in each process."""
        try:
            from fsspec.config import conf
            from fsspec.core import url_to_fs

            options = self.options
            if address.startswith("s3://"):
                # s3fs and this class repeat requests. A third repetition, in botocore, would multiply the waiting time.
                given = {**conf.get("s3", {}), **options}.get("config_kwargs") or {}
                options = dict(options, config_kwargs={"retries": {"max_attempts": 0}, **given})
            return url_to_fs(address, **options)
        except ImportError as error:
            raise StorageError(
                f"{address}: {error}. Install the packages for object storage: pip install 'maskfeat_plugin[remote]'."
            ) from error

    def _missing(self, address: str) -> Exception:
        """Return the error for a missing object, which depends on its bucket."""
        system, path = self._system(address)
        bucket = _bucket_of(address, path)
        try:
            is_there = not address.startswith(PREFIXES) or system.exists(bucket)
        except Exception:  # without the right to list buckets
            is_there = True
        if is_there:
            return FileNotFoundError(f"{address} does not exist.")
        return StorageError(f"{address}: the bucket {bucket} does not exist. {_ADVICE}.")


class RemoteFile(io.RawIOBase):
    """Object in a storage as a file. Parts of it are fetched when they are read.

    Args:
        backend (FsspecBackend): The backend.
        address (str): The address of the object.

    Raises:
        StorageError: If the storage cannot be used.
        FileNotFoundError: If the object does not exist.
    """

    def __init__(self, backend: FsspecBackend, address: str) -> None:
        super().__init__()
        self._backend = backend
        self._address = address
        self._position = 0
        settings = dict(block_size=_BLOCK, cache_type="blockcache", cache_options=dict(maxblocks=_BLOCKS))
        self._file = backend.call(address, lambda system, path: system.open(path, "rb", **settings))

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    @property
    def fetched(self) -> int:
        """Return the number of bytes that were fetched."""
        return int(self._file.cache.total_requested_bytes)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position. Nothing is fetched."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read bytes from the position on."""

        def work(system: object, path: str) -> bytes:
            self._file.seek(self._position)
            return self._file.read(len(buffer))

        content: bytes = self._backend.call(self._address, work) if self._position < self._file.size else b""
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def _bucket_of(address: str, path: str) -> str:
    """Return the bucket in the path of an address, or the repository of Hugging Face."""
    parts = path.split("/")
    length = (2 if parts[0] not in ("buckets", "datasets", "spaces") else 3) if address.startswith("hf://") else 1
    return "/".join(parts[:length])


def _is_refused(error: Exception) -> bool:
    """Check whether the storage answered that the access is not allowed.

    Hugging Face's errors have the answer of the server, gcsfs's errors have its status or begin with "Forbidden".
    """
    status = getattr(getattr(error, "response", error), "status_code", getattr(error, "code", None))
    return isinstance(error, PermissionError) or status in (401, 403) or str(error).startswith("Forbidden")


def _may_pass(error: Exception) -> bool:
    """Check whether a request that failed with an error may succeed later."""
    if "Credentials" in type(error).__name__:  # of botocore
        return False
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package in _NETWORK


register_backend("fsspec", FsspecBackend, prefixes=PREFIXES, force=True)  # mmengine uses petrel for s3
FileClient.register_backend("fsspec", FsspecBackend, prefixes=PREFIXES, force=True)
