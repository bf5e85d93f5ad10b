"""Search for the newest checkpoint of a training that is whole, which means neither cut off nor damaged."""

import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from .errors import CheckpointError
from .publishing import LAST, restore_all
from .reader import load_file
from .sharded import SUFFIX, check_shards, is_sharded, read_plain

# First part of mmengine's names for copies of the best checkpoints
_BEST = "best_"


def check_whole(path: str | Path) -> None:
    """Refuse a checkpoint that is cut off or damaged anywhere, or holds more than weights and plain values.

    The whole file is read once, for its checksums.

    Args:
        path (str | Path): A file of torch.save, or a folder of shards.

    Raises:
        UnsafeCheckpointError: If it holds more than weights and plain values.
        CheckpointError: If it is not whole.
    """
    if is_sharded(path):
        check_shards(path, load_file)
    else:
        load_file(Path(path), mmap=True)


def newest_whole(folder: str | Path) -> str | Path | None:
    """Return the newest whole checkpoint of a training. The log names the checkpoints that are not whole.

    The newest checkpoint is the one with the most iterations, according to the checkpoints themselves. File times may
    be changed by a copy, and mmengine's ``last_checkpoint`` is not used either. ``last_checkpoint`` is used only if
    the work directory has no checkpoint of a training, to find the folder with the checkpoints.

    Args:
        folder (str | Path): The work directory.

    Returns:
        str | Path | None: The checkpoint, None if the training has written none. If ``last_checkpoint`` names a place
            that is not a local file, such as "s3://...", that place: the checkpoints there are whole.

    Raises:
        CheckpointError: If there are checkpoints but none is whole, or ``last_checkpoint`` names no checkpoint of this
            training.
    """
    folder = Path(folder)
    refused: list[CheckpointError] = []
    path = _newest_of(_candidates(folder), refused)
    if path is not None:
        return path
    if all(isinstance(error, _OtherFileError) for error in refused):
        last = _last_of(folder)
        if isinstance(last, str):
            return last
        if last is not None and last.is_dir() and not is_sharded(last):
            return last  # a folder of a training engine's own format, which only the engine can check
        if last is not None:
            path = _newest_of(_candidates(last.parent), refused)
    if path is not None:
        print_log(f"The checkpoints of {folder} are in {path.parent}, as its {LAST} says.", "current")
        return path
    if refused:
        raise CheckpointError(
            f"no checkpoint in {folder} is whole: {' '.join(map(str, refused))} Remove them to start again."
        )
    return None


class _OtherFileError(CheckpointError):
    """Error for a file that is not a checkpoint of a training."""


def _newest_of(paths: Iterable[Path], refused: list[CheckpointError]) -> Path | None:
    """Return the newest whole checkpoint and log the refused ones; errors are added to ``refused``."""
    found = []
    for path in paths:
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
            for reason in refused:
                print_log(f"Passed over: {reason}", "current", logging.WARNING)
            return path
    return None


def _last_of(folder: Path) -> str | Path | None:
    """Return the checkpoint that ``last_checkpoint`` names: an engine's folder here, or a checkpoint elsewhere."""
    file = folder / LAST
    try:
        text = os.fsdecode(file.read_bytes()).strip() if file.is_file() else ""
        if not text or "://" in text:
            return text or None
        path = Path(text)
        if path.suffix == ".pth" and (folder / path.name).is_dir():
            return folder / path.name
        is_there = path.is_dir() if path.suffix != ".pth" else path.exists()
    except (OSError, ValueError) as error:  # not a file name: too long, or with null bytes
        raise CheckpointError(f"{file} cannot be used ({error}). {_ADVICE}") from error
    if not is_there or path.suffix not in (".pth", SUFFIX):
        raise CheckpointError(f"{file} names {text}, which is no checkpoint. {_ADVICE}")
    # if told so, mmengine writes checkpoints to another place, in a folder of the same name and without this file
    is_relative = not path.is_absolute() and path.absolute().parent.name != folder.absolute().name
    if is_relative or (path.parent / LAST).exists():
        raise CheckpointError(f"{file} names {text}, which is a checkpoint of another training. {_ADVICE}")
    return path


_ADVICE = "There is no checkpoint beside it. Give --resume the path of a checkpoint, or remove it to start again."


def _candidates(folder: Path) -> list[Path]:
    try:
        restore_all(folder)
        paths = {path.resolve(): path for path in folder.iterdir()}.values() if folder.is_dir() else []
        named = [path for path in paths if not path.name.startswith((_BEST, "."))]
        return sorted(path for path in named if (path.suffix == ".pth" and path.is_file()) or is_sharded(path))
    except OSError as error:
        raise CheckpointError(f"The folder {folder} cannot be read: {error}.") from error


def _progress(path: Path) -> tuple[int, int, bool]:
    """Return iterations, epochs, and whether training can continue exactly, for comparison."""
    content: Any
    if is_sharded(path):
        content = read_plain(path, partial(load_file, mmap=True, tensors=False))[0]
    else:
        content = load_file(path, mmap=True, tensors=False)
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict) or "iter" not in meta:
        raise _OtherFileError(f"{path} is of no training: its meta has no iter.")
    progress = [meta["iter"], meta.get("epoch", 0)]
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in progress):
        raise CheckpointError(f"{path} cannot be resumed: its iter and epoch are {progress[0]!r} and {progress[1]!r}.")
    for key, kinds in _PARTS.items():
        if key in content and not isinstance(content[key], kinds):
            raise CheckpointError(f"{path} cannot be resumed: its {key} is of type {type(content[key]).__name__}.")
    return *progress, "optimizer" in content


# Types of the parts of a checkpoint that mmengine's runner does not check
_PARTS: dict[str, type | tuple[type, ...]] = dict(
    state_dict=dict, optimizer=dict, message_hub=dict, param_schedulers=(dict, list)
)
