"""Sharded checkpoints: a folder with one file per process, which any number of processes can read.

Each process writes its own shards of the tensors, so no process ever holds the whole model. The files hold plain
tensors and are readable with ``weights_only=True``. The index of ``torch.distributed.checkpoint`` is a pickle.
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

# Ending of the name of a folder of shards; a whole checkpoint is a file with another ending.
SUFFIX = ".sharded"
# Keys of a dict that replaces a tensor in a file that holds only a part of it.
_SIZE, _BEGIN, _ROWS = "shard_of_size", "first_row", "rows"


def is_sharded(path: str | Path) -> bool:
    """Check whether a checkpoint has the name of a folder of shards."""
    return str(path).rstrip("/").endswith(SUFFIX)


def write_shards(checkpoint: dict[str, Any], folder: str | Path) -> None:
    """Write the shards of this process. Every process must call it. The folder appears when all shards are on disk.

    Args:
        checkpoint (dict[str, Any]): Nested dicts and lists. Shards are ``ShardedTensor`` cut along the first dimension,
            as ``StateDictType.SHARDED_STATE_DICT`` returns them. All other values are taken from the first process.
        folder (str | Path): Path that ends in :data:`SUFFIX`, on a file system that the processes share.

    Raises:
        OSError: On every process, if one of them cannot write. An existing folder of that name is not changed.
    """
    folder = Path(folder)
    rank, world_size = get_dist_info()
    unfinished = unfinished_path(folder)
    written = [uuid.uuid4().hex]  # the same in all files of one checkpoint
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
            os.fsync(file.fileno())  # on the machine that wrote it

    try:
        _together(make_folder if rank == 0 else None)
        _together(write_own)
        _together((lambda: publish(folder)) if rank == 0 else None)
    except OSError:
        if rank == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _together(work: Callable[[], None] | None) -> None:
    """Wait until every process has done its work. If one has failed, raise an error on all of them."""
    error = None
    try:
        if work is not None:
            work()
    except (OSError, RuntimeError) as failure:  # torch.save raises RuntimeError if a disk is full
        error = failure
    for rank, other in enumerate(all_gather_object(error and (getattr(error, "errno", None), str(error)))):
        if other is not None:
            raise OSError(other[0], f"process {rank}: {other[1]}") from error


def read_shards(folder: str | Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Join the shards of all processes.

    Args:
        folder (str | Path): A folder of :func:`write_shards`.
        load (Callable[[Path], Any]): Function that reads one file.

    Returns:
        dict[str, Any]: The checkpoint with whole tensors.

    Raises:
        CheckpointError: If it is not such a folder, or a file is missing or belongs to another checkpoint.
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
        raise CheckpointError(f"{_file(folder, 0)} is not a part of a sharded checkpoint.") from error
    if missing:
        raise CheckpointError(
            f"{folder} lacks the shards of process {', '.join(missing)} of {processes}; copy it again."
        )
    parts = [first, *(load(_file(folder, i)) for i in range(1, processes))]
    try:
        for rank, part in enumerate(parts):
            same = all(part.get(key) == first.get(key) for key in ("processes", "written"))
            if not same or part.get("rank", rank) != rank:
                raise CheckpointError(
                    f"{_file(folder, rank)} was not written together with {_file(folder, 0).name}; copy {folder} again."
                )
        return _join([part["checkpoint"] for part in parts], str(folder), "")
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file may raise any type
        raise CheckpointError(f"{folder} has shards that do not fit together ({error!r}); copy it again.") from error


def shard_files(folder: Path) -> list[Path]:
    """Return the files of a sharded checkpoint, in the order of the processes."""
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
    """Replace a sharded tensor by a record of this process's part; return other values unchanged."""
    if not isinstance(value, ShardedTensor):
        return value
    shards = value.local_shards()
    record = {_SIZE: tuple(value.size()), _BEGIN: 0, _ROWS: None}
    if shards:  # at most one per process, a range of the first dimension
        # a clone, because saving a view would write its whole storage
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
    """Join the rows of all processes, which must follow each other."""
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
