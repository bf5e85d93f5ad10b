"""Which checkpoints of a training are whole, and which of them is the newest."""

import logging
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from .errors import CheckpointError
from .reader import load_file
from .sharded import is_sharded, shard_files

# mmengine's names of the file that holds the path of the newest one, and of copies that others are measured by
_LAST, _BEST = "last_checkpoint", "best_"


def unfinished_path(path: str | Path) -> Path:
    """Where a checkpoint is written before it is whole: in the same folder, under a name that nothing reads."""
    path = Path(path)
    return path.with_name(f".{path.name}.unfinished")


def publish(path: str | Path) -> None:
    """Give a checkpoint that is written at :func:`unfinished_path` its name, once the disk has it.

    Whatever happens, and whenever the machine stops, the name stands for the old file or for the whole new one.

    Args:
        path (str | Path): Its name, of a file or a folder.

    Raises:
        OSError: If the disk does not take it.
    """
    path, unfinished = Path(path), unfinished_path(path)
    for file in [p for p in unfinished.rglob("*") if p.is_file()] if unfinished.is_dir() else [unfinished]:
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(unfinished, path)
    _sync_folder(path.parent)


def write_last(folder: str | Path, path: str | Path) -> None:
    """Write mmengine's ``last_checkpoint``, which its runners resume from; never half of it.

    Args:
        folder (str | Path): The work directory.
        path (str | Path): Path of the newest checkpoint.
    """
    unfinished = unfinished_path(Path(folder, _LAST))
    unfinished.write_text(str(path))
    publish(Path(folder, _LAST))


def remove_unfinished(folder: str | Path) -> None:
    """Remove what an interrupted training was writing when it ended."""
    for path in Path(folder).glob(".*.unfinished"):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def check_whole(path: str | Path) -> None:
    """Refuse a checkpoint that is cut off or damaged anywhere, or holds more than weights and plain values.

    All of the file is read once, for its checksums.

    Args:
        path (str | Path): A file of torch.save, or a folder of shards.

    Raises:
        UnsafeCheckpointError: If it holds more than weights and plain values.
        CheckpointError: If it is not whole.
    """
    path = Path(path)
    files = shard_files(path) if path.is_dir() else [path]
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, OSError) as error:
            if path.is_file() and not _begins_as_zip(path):
                break  # an older format, without checksums, or none: load_file tells
            raise CheckpointError(f"{file} is not whole ({error}).") from error
        if damaged:
            raise CheckpointError(f"{file} is not whole: {damaged} in it is damaged.")
    load_file(path, mmap=path.is_file() and _begins_as_zip(path))


def newest_whole(folder: str | Path) -> str | Path | None:
    """The newest whole checkpoint of a training; those that are not whole are named in the log.

    The newest is that of most iterations, by what the checkpoints themselves say: neither their times, which a copy
    changes, nor mmengine's ``last_checkpoint`` is relied on.

    Args:
        folder (str | Path): The work directory. If the checkpoints are elsewhere, its ``last_checkpoint`` tells where.

    Returns:
        str | Path | None: The checkpoint, None if the training has written none; what ``last_checkpoint`` says if that
            is no file here but for example "s3://...", where what is written is whole.

    Raises:
        CheckpointError: If there are checkpoints and none is whole.
    """
    folder = Path(folder)
    last = Path(folder, _LAST)
    text = last.read_text().strip() if last.is_file() else ""
    if "://" in text:
        return text
    folders = {folder, Path(text).parent} if text else {folder}
    found, refused = [], []
    for path in _candidates(folders):
        try:
            found.append((*_progress(path), path))
        except CheckpointError as error:
            refused.append(error)
    for *_, path in sorted(found, reverse=True):
        try:
            check_whole(path)
        except CheckpointError as error:
            refused.append(error)
        else:
            for error in refused:
                print_log(f"Passed over: {error}", "current", logging.WARNING)
            return path
    if refused:
        raise CheckpointError(
            f"no checkpoint in {folder} is whole: {' '.join(map(str, refused))} Remove them to begin anew."
        )
    # a folder of an engine of its own, which only that can check
    return Path(text) if text and Path(text).is_dir() else None


def _candidates(folders: Iterable[Path]) -> list[Path]:
    paths = {path.resolve(): path for folder in folders if folder.is_dir() for path in folder.iterdir()}.values()
    named = [path for path in paths if not path.name.startswith((_BEST, "."))]
    return sorted(path for path in named if (path.suffix == ".pth" and path.is_file()) or is_sharded(path))


def _progress(path: Path) -> tuple[int, int, bool]:
    """Iterations, epochs, and whether training can go on exactly; to compare by."""
    first = Path(path, "rank0.pth") if path.is_dir() else path
    if path.is_dir() and not first.is_file():
        raise CheckpointError(f"{path} has no {first.name}.")
    content: Any = load_file(first, mmap=_begins_as_zip(first))
    content = content.get("checkpoint", content) if isinstance(content, dict) else {}
    meta = content.get("meta") if isinstance(content.get("meta"), dict) else {}
    if not isinstance(meta.get("iter"), int):
        raise CheckpointError(f"{path} is of no training: its meta has no iter.")
    return meta["iter"], int(meta.get("epoch", 0)), "optimizer" in content


def _begins_as_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


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
