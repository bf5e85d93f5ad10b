"""Digests of files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

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
