"""Digests and locks of files."""

import hashlib
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
