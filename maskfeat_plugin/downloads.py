"""Downloaded files, each kept in torch's cache under its whole URL."""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

from tqdm import tqdm

from .errors import describe
from .files import is_full_disk, publish, reason_of, sha256, sync, unfinished_path, whole_file
from .locks import locked

_CHUNK = 1 << 20  # bytes
_TIMEOUT = 30  # seconds that a server may take until it sends something
# torch, OpenMMLab and timm put the beginning of the SHA-256 into the file name. Other projects put a date there.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")
_DATE = re.compile(r"20\d{6}(\d{6})?")


class DownloadError(ValueError):
    """Failed or damaged download; the message names the URL."""


def fetch(url: str, check: Callable[[Path], object], digest: str | None = None) -> tuple[Path, str]:
    """Download a file into torch's cache, unless the cache already has the server's version.

    The name of the file in the cache depends on the whole URL. If the file name contains no hash, the server is asked
    whether the file has changed. If the server does not answer, the cached file is used and a warning is logged. A new
    file appears in the cache only when it is complete: its length, the hash in its name and ``check`` are verified.

    Args:
        url (str): URL of http or https.
        check (Callable[[Path], object]): Reads the file before it is kept; raises if it is damaged.
        digest (str, optional): SHA-256 that another process has computed. A cached file with this SHA-256 is used
            without asking the server. Defaults to None.

    Returns:
        tuple[Path, str]: The file and its SHA-256.

    Raises:
        DownloadError: If the file cannot be downloaded, is incomplete, or has another hash than its name or ``digest``.
    """
    import torch  # not at the top: this module must be importable without torch

    name = _name_of(url)
    root = Path(torch.hub.get_dir(), "checkpoints")
    expected = digest or hash_in_name(name)
    shared = root / name  # torch and torchvision share it and look at the name alone, so only use it if a hash fits
    if expected and hash_in_name(name) and shared.is_file():
        found = sha256([shared])
        if found.startswith(expected):
            return shared, found
    path = root / hashlib.sha256(url.encode()).hexdigest()[:32] / name
    with locked(path.with_name(f".{path.name}.lock")):
        kept = _read_record(path)
        if kept and expected and kept["sha256"].startswith(expected):
            return path, kept["sha256"]
        try:
            answer = urlopen(Request(url, headers={"User-Agent": "maskfeat_plugin"}), timeout=_TIMEOUT)
        except Exception as error:  # the network can raise any error
            if kept and not expected:
                _warn(f"{url} does not answer ({describe(error)}). The copy downloaded before, {path}, is used.")
                return path, kept["sha256"]
            raise DownloadError(
                f"{url} cannot be downloaded: {describe(error)}. Check the URL and the network, or download it by hand "
                "and give its path."
            ) from error
        with answer:
            told = {name: answer.headers[name] for name in ("Content-Length", "ETag", "Last-Modified")}
            if kept and not expected and told == kept["told"]:
                return path, kept["sha256"]
            return path, _keep(url, answer, path, expected, told, check)


def hash_in_name(name: str) -> str | None:
    """Return the hash at the end of a file's name, the beginning of its SHA-256; None if the name has no hash."""
    found = _HASH.search(name)
    return found[1] if found and not _DATE.fullmatch(found[1]) else None


def _name_of(url: str) -> str:
    """Return the last part of a URL as a file name without characters that are special in a shell."""
    name = unquote(urlparse(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]|^\.", "_", name, flags=re.ASCII)[-100:] or "file"


def _keep(
    url: str,
    answer: Any,
    path: Path,
    expected: str | None,
    told: dict[str, str | None],
    check: Callable[[Path], object],
) -> str:
    """Write a server's answer to a file of the cache and return its SHA-256."""
    unfinished = unfinished_path(path)
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                length, found = _copy(answer, file, path.name)
            sync(unfinished)
        except Exception as error:
            if is_full_disk(error):
                reason = f"{path} cannot be written: {reason_of(error, path)}. Make room there."
                raise DownloadError(f"{url} cannot be downloaded: {reason}") from error
            raise DownloadError(f"{url} cannot be downloaded: {describe(error)}. Try again.") from error
        if told["Content-Length"] not in (None, str(length)):
            raise DownloadError(
                f"{url} cannot be downloaded: the data end after {length} of {told['Content-Length']} bytes. Try again."
            )
        if expected and not found.startswith(expected):
            raise DownloadError(
                f"{url} cannot be downloaded: its SHA-256 begins with {found[: len(expected)]} instead of "
                f"{expected}. Try again, or check the URL."
            )
        check(unfinished)
        _record_path(path).unlink(missing_ok=True)
        publish(path)
    finally:
        unfinished.unlink(missing_ok=True)
    with suppress(OSError), whole_file(_record_path(path)) as record:  # without a record, the next call downloads again
        record.write_text(json.dumps(dict(length=length, sha256=found, told=told)))
    return found


def _copy(answer: Any, file: IO[bytes], title: str) -> tuple[int, str]:
    """Copy a server's answer to a file and return its length in bytes and its SHA-256."""
    digest, length = hashlib.sha256(), 0
    total = int(answer.headers["Content-Length"] or 0)
    with tqdm(total=total or None, desc=title, unit="B", unit_scale=True, mininterval=5.0, leave=False) as bar:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            length += len(chunk)
            bar.update(len(chunk))
    return length, digest.hexdigest()


def _record_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _read_record(path: Path) -> dict | None:
    """Read the record of a cached file. Return None if record or file is missing, or the file has another length."""
    try:
        record = json.loads(_record_path(path).read_text())
        return record if path.stat().st_size == record["length"] and record["sha256"] and "told" in record else None
    except Exception:  # a missing or damaged record: the file is downloaded
        return None


def _warn(text: str) -> None:
    from mmengine.logging import print_log

    print_log(text, logger="current", level=logging.WARNING)
