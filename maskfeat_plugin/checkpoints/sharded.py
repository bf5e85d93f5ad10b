"""Sharded checkpoints: a folder with one file a process, which any number of processes reads.

Each process writes its own shards of the tensors, so that none ever holds a whole model. The files hold plain tensors,
readable with ``weights_only=True``, unlike those of ``torch.distributed.checkpoint``, whose index is a pickle.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor

from .errors import CheckpointError

# The ending that tells a folder of shards from the file of a whole checkpoint.
SUFFIX = ".sharded"
# Stands in a file for a tensor of which it holds a part.
_SIZE, _BEGIN, _ROWS = "shard_of_size", "first_row", "rows"


def is_sharded(path: str | Path) -> bool:
    """Whether the name of a checkpoint is that of a folder of shards."""
    return str(path).rstrip("/").endswith(SUFFIX)


def write_shards(checkpoint: dict[str, Any], folder: str | Path) -> None:
    """Write this process's shards; to be called by every process. The folder appears when all are written.

    Args:
        checkpoint (dict[str, Any]): Nested dicts and lists. Shards are ``ShardedTensor`` cut along the first dimension,
            as ``StateDictType.SHARDED_STATE_DICT`` gives them; of everything else the first process's is kept.
        folder (str | Path): Path that ends in :data:`SUFFIX`, on a file system that the processes share.

    Raises:
        OSError: If it cannot be written.
    """
    folder = Path(folder)
    rank, world_size = get_dist_info()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    barrier()
    content = checkpoint if rank == 0 else {key: checkpoint.get(key) for key in ("state_dict", "optimizer")}
    torch.save(dict(processes=world_size, checkpoint=_map(content, _cut)), _file(unfinished, rank))
    barrier()
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(unfinished, folder)
    barrier()


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
    parts = [first["checkpoint"], *(load(_file(folder, i))["checkpoint"] for i in range(1, processes))]
    return _join(parts, str(folder), "")


@CheckpointLoader.register_scheme(prefixes=rf".*\{SUFFIX}/?$")
def load_from_sharded(filename: str, map_location: Any = None) -> dict[str, Any]:
    """mmengine's loader of such names, by which its runners resume.

    Args:
        filename (str): The folder.
        map_location (Any): Where tensors go, as in ``torch.load``. Defaults to None, the CPU.

    Returns:
        dict[str, Any]: The checkpoint with whole tensors.

    Raises:
        FileNotFoundError: If the folder is not there.
        CheckpointError: As :func:`read_shards`.
    """
    if not Path(filename).is_dir():
        raise FileNotFoundError(f"The sharded checkpoint {filename} does not exist.")
    return read_shards(filename, lambda path: torch.load(path, map_location=map_location or "cpu", weights_only=True))


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
    size = records[0][_SIZE]
    parts = sorted((r for r in records if r[_ROWS] is not None), key=lambda record: record[_BEGIN])
    rows = sum(len(record[_ROWS]) for record in parts)
    if not parts or rows != size[0]:
        raise CheckpointError(f"{source}: the shards of {key.lstrip('.')} have {rows} of {size[0]} rows.")
    return torch.cat([record[_ROWS] for record in parts]).view(size)
