"""Sharded checkpoints: a folder with one file a process, which any number of processes reads.

Each process writes its own shards of the tensors, so that none ever holds a whole model. The files hold plain tensors,
readable with ``weights_only=True``, unlike those of ``torch.distributed.checkpoint``, whose index is a pickle.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from maskfeat_plugin.files import publish, restore, unfinished_path

from .errors import CheckpointError

# The ending that tells a folder of shards from the file of a whole checkpoint.
SUFFIX = ".sharded"
# Stands in a file for a tensor of which it holds a part.
_SIZE, _BEGIN, _ROWS = "shard_of_size", "first_row", "rows"


def is_sharded(path: str | Path) -> bool:
    """Whether the name of a checkpoint is that of a folder of shards."""
    return str(path).rstrip("/").endswith(SUFFIX)


def write_shards(checkpoint: dict[str, Any], folder: str | Path) -> None:
    """Write this process's shards; to be called by every process. The folder appears when the disk has all of them.

    Args:
        checkpoint (dict[str, Any]): Nested dicts and lists. Shards are ``ShardedTensor`` cut along the first dimension,
            as ``StateDictType.SHARDED_STATE_DICT`` gives them; of everything else the first process's is kept.
        folder (str | Path): Path that ends in :data:`SUFFIX`, on a file system that the processes share.

    Raises:
        OSError: On every process, if one of them cannot write. A folder of that name is kept as it is.
    """
    folder = Path(folder)
    rank, world_size = get_dist_info()
    unfinished = unfinished_path(folder)
    written = [uuid.uuid4().hex]  # tells files of one checkpoint from those of another
    broadcast_object_list(written)

    def make_folder() -> None:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)

    def write_own() -> None:
        content = checkpoint if rank == 0 else {key: checkpoint.get(key) for key in ("state_dict", "optimizer")}
        part = dict(processes=world_size, rank=rank, written=written[0], checkpoint=_map(content, _cut))
        with open(_file(unfinished, rank), "wb") as file:
            torch.save(part, file)
            file.flush()
            os.fsync(file.fileno())  # by the machine that has written it

    try:
        _together(make_folder if rank == 0 else None)
        _together(write_own)
        _together((lambda: publish(folder)) if rank == 0 else None)
    except OSError:
        if rank == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _together(work: Callable[[], None] | None) -> None:
    """Wait until every process has done its work; raise on all of them if one has failed."""
    error = None
    try:
        if work is not None:
            work()
    except (OSError, RuntimeError) as failure:  # torch.save raises the second if a disk is full
        error = failure
    for rank, other in enumerate(all_gather_object(error and (getattr(error, "errno", None), str(error)))):
        if other is not None:
            raise OSError(other[0], f"process {rank}: {other[1]}") from error


def read_shards(folder: str | Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Put the shards of all processes together.

    Args:
        folder (str | Path): What :func:`write_shards` wrote.
        load (Callable[[Path], Any]): Reads one file.

    Returns:
        dict[str, Any]: The checkpoint with whole tensors.

    Raises:
        CheckpointError: If it is no such folder, or a file is missing or of another checkpoint.
    """
    folder = Path(folder)
    restore(folder)
    if not _file(folder, 0).is_file():
        raise CheckpointError(f"{folder} is not a sharded checkpoint: it has no {_file(folder, 0).name}.")
    first = load(_file(folder, 0))
    try:
        processes = first["processes"]
        missing = [str(i) for i in range(processes) if not _file(folder, i).is_file()]
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{_file(folder, 0)} is no part of a sharded checkpoint.") from error
    if missing:
        raise CheckpointError(
            f"{folder} lacks the shards of process {', '.join(missing)} of {processes}; copy it anew."
        )
    parts = [first, *(load(_file(folder, i)) for i in range(1, processes))]
    try:
        for rank, part in enumerate(parts):
            same = all(part.get(key) == first.get(key) for key in ("processes", "written"))
            if not same or part.get("rank", rank) != rank:
                raise CheckpointError(
                    f"{_file(folder, rank)} was not written together with {_file(folder, 0).name}; copy {folder} anew."
                )
        return _join([part["checkpoint"] for part in parts], str(folder), "")
    except CheckpointError:
        raise
    except Exception as error:  # a file can cause any
        raise CheckpointError(f"{folder} has shards that do not fit together ({error!r}); copy it anew.") from error


def shard_files(folder: Path) -> list[Path]:
    """The files of a sharded checkpoint, in the order of the processes."""
    return sorted(folder.glob("rank*.pth"), key=lambda path: int(path.stem.removeprefix("rank")))


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}.pth"


def _map(node: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(node, dict):
        return {key: _map(value, change) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_map(value, change) for value in node)
    return change(node)


def _cut(value: Any) -> Any:
    """A record of this process's part of a sharded tensor; anything else as it is."""
    if not isinstance(value, ShardedTensor):
        return value
    shards = value.local_shards()
    record = {_SIZE: tuple(value.size()), _BEGIN: 0, _ROWS: None}
    if shards:  # at most one a process, a range of the first dimension
        # a clone: a view would take its whole storage along into the file
        record.update({_BEGIN: shards[0].metadata.shard_offsets[0], _ROWS: shards[0].tensor.detach().cpu().clone()})
    return record


def _join(nodes: list[Any], source: str, key: str) -> Any:
    first = nodes[0]
    if isinstance(first, dict) and _SIZE in first:
        return _whole(nodes, source, key)
    if isinstance(first, dict):
        return {name: _join(list(_of_each(nodes, name)), source, f"{key}.{name}") for name in first}
    return first


def _of_each(nodes: list[Any], name: Any) -> Iterator[Any]:
    for node in nodes:
        if isinstance(node, dict) and name in node:
            yield node[name]


def _whole(records: list[dict], source: str, key: str) -> Tensor:
    """Put the rows of all processes together, which have to follow each other."""
    key, size = key.lstrip("."), tuple(records[0][_SIZE])
    parts = sorted((r for r in records if r[_ROWS] is not None), key=lambda record: record[_BEGIN])
    if any(tuple(r[_SIZE]) != size for r in records) or any(part[_ROWS].shape[1:] != size[1:] for part in parts):
        raise CheckpointError(f"{source}: the shards of {key} are of tensors of different sizes.")
    if len({part[_ROWS].dtype for part in parts}) > 1:
        raise CheckpointError(f"{source}: the shards of {key} are of different types.")
    rows = sum(len(part[_ROWS]) for part in parts)
    if not parts or rows != size[0]:
        raise CheckpointError(f"{source}: the shards of {key} have {rows} of {size[0]} rows.")
    end = 0
    for part in parts:
        if part[_BEGIN] != end:
            raise CheckpointError(
                f"{source}: the shards of {key} overlap: row {part[_BEGIN]} stands where row {end} should."
            )
        end += len(part[_ROWS])
    return torch.cat([part[_ROWS] for part in parts])
