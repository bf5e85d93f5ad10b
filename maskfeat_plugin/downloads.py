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
_TIMEOUT = 30  # seconds in which a server has to send something
# torch, OpenMMLab and timm put the beginning of the SHA-256 into the name, others a date
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")
_DATE = re.compile(r"20\d{6}(\d{6})?")


class DownloadError(ValueError):
    """A file that cannot be downloaded, or not as it should be; the message names the URL."""


def fetch(url: str, check: Callable[[Path], object], digest: str | None = None) -> tuple[Path, str]:
    """Download a file into torch's cache, unless the cache has what the server has.

    The name of the file in the cache depends on the whole URL. Without a hash in its name the server is asked whether
    the file has changed; where it does not answer, the file in the cache is used and the log says so. A file appears
    in the cache when it is complete: its length, the hash in its name and ``check`` are passed.

    Args:
        url (str): URL of http or https.
        check (Callable[[Path], object]): Reads the file before it is kept; raises if it is damaged.
        digest (str, optional): SHA-256 that another process has found; a file that has it is used without asking the
            server. Defaults to None.

    Returns:
        tuple[Path, str]: The file and its SHA-256.

    Raises:
        DownloadError: If it cannot be downloaded, is cut off, or has another hash than its name or ``digest`` says.
    """
    import torch  # the module is imported where torch may be missing

    name = _name_of(url)
    root = Path(torch.hub.get_dir(), "checkpoints")
    expected = digest or hash_in_name(name)
    shared = root / name  # of torch and torchvision, which look at the name alone: a hash makes up for that
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
        except Exception as error:  # whatever the network does
            if kept and not expected:
                _warn(f"{url} does not answer ({describe(error)}): {path}, downloaded before, is used.")
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
    """Return the beginning of the SHA-256 that a file's name ends with, None without one."""
    found = _HASH.search(name)
    return found[1] if found and not _DATE.fullmatch(found[1]) else None


def _name_of(url: str) -> str:
    """Return the last part of a URL as the name of a file, with no character that means something to a shell."""
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
    """Write an answer to a file of the cache; returns its SHA-256."""
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
                f"{url} cannot be downloaded: it ends after {length} of {told['Content-Length']} bytes. Try again."
            )
        if expected and not found.startswith(expected):
            raise DownloadError(
                f"{url} cannot be downloaded: its SHA-256 begins with {found[: len(expected)]} and not with "
                f"{expected}. Try again, or ask for the right URL."
            )
        check(unfinished)
        _record_path(path).unlink(missing_ok=True)
        publish(path)
    finally:
        unfinished.unlink(missing_ok=True)
    with suppress(OSError), whole_file(_record_path(path)) as record:  # without it, the next time downloads anew
        record.write_text(json.dumps(dict(length=length, sha256=found, told=told)))
    return found


def _copy(answer: Any, file: IO[bytes], title: str) -> tuple[int, str]:
    """Copy an answer to a file; returns its length in bytes and its SHA-256."""
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
    """Read what is known of a file in the cache; None if it is not there, or not as it was written."""
    try:
        record = json.loads(_record_path(path).read_text())
        return record if path.stat().st_size == record["length"] and record["sha256"] and "told" in record else None
    except Exception:  # not there, or damaged: it is downloaded
        return None


def _warn(text: str) -> None:
    from mmengine.logging import print_log

    print_log(text, logger="current", level=logging.WARNING)
