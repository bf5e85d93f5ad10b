"""Sharded checkpoints: folders of ``torch.distributed.checkpoint``, which any number of processes can read.

Each process writes its own shards of the tensors, so no process ever holds the whole model. All other values are in
``training.pth``, a file of torch.save, with a SHA-256 of every other file. The index of the tensors, ``.metadata``, is
a pickle; only torch's classes for it are unpickled.
"""

import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_saver import save

from maskfeat_plugin.files import publish, restore, sha256, unfinished_path

from .errors import CheckpointError, UnsafeCheckpointError

# Ending of the name of a folder of shards; a whole checkpoint is a file with another ending.
SUFFIX = ".sharded"
PLAIN = "training.pth"
"""Name of the file with everything but the tensors."""
_INDEX = ".metadata"


def is_sharded(path: str | Path) -> bool:
    """Check whether a checkpoint has the name of a folder of shards."""
    return str(path).rstrip("/").endswith(SUFFIX)


def write_shards(checkpoint: dict[str, Any], folder: str | Path) -> None:
    """Write the shards of this process. Every process must call it. The folder appears when all shards are on disk.

    Args:
        checkpoint (dict[str, Any]): The tensors of ``state_dict`` and of the optimizer's ``state`` may be ``DTensor``.
            All other values are taken from the first process.
        folder (str | Path): Path that ends in :data:`SUFFIX`, on a file system that the processes share.

    Raises:
        OSError: On every process, if one of them cannot write. An existing folder of that name is not changed.
    """
    folder = Path(folder)
    unfinished, rank = unfinished_path(folder), get_rank()
    plain = dict(checkpoint)
    tensors = dict(state_dict=plain.pop("state_dict"))
    if "state" in plain.get("optimizer", ()):
        plain["optimizer"] = dict(plain["optimizer"])
        tensors["optimizer"] = dict(state=plain["optimizer"].pop("state"))

    def finish() -> None:
        digests[0][_INDEX] = sha256([unfinished / _INDEX])
        whole = {name: digest for part in digests for name, digest in part.items()}
        torch.save(dict(digests=whole, checkpoint=plain), unfinished / PLAIN)
        publish(folder)

    if rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        try:
            save(tensors, storage_writer=filesystem.FileSystemWriter(unfinished))
        except CheckpointException as error:  # on every process
            failed, (cause, _) = min(error.failures.items())
            raise OSError(getattr(cause, "errno", None), f"process {failed}: {cause}") from error
        digests = _together(lambda: {path.name: sha256([path]) for path in unfinished.glob(f"__{rank}_*")})
        _together(finish if rank == 0 else lambda: None)
    except OSError:
        if rank == 0:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _together(work: Callable[[], Any]) -> list[Any]:
    """Wait until every process has done its work, and return all results. If one has failed, raise an error on all."""
    result, error = None, None
    try:
        result = work()
    except (OSError, RuntimeError) as failure:  # torch.save raises RuntimeError if a disk is full
        error = failure
    results = all_gather_object((result, error and (getattr(error, "errno", None), str(error))))
    for rank, (_, other) in enumerate(results):
        if other is not None:
            raise OSError(other[0], f"process {rank}: {other[1]}") from error
    return [result for result, _ in results]


def read_plain(folder: str | Path, load: Callable[[Path], Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the values that are not tensors.

    Args:
        folder (str | Path): A folder of :func:`write_shards`.
        load (Callable[[Path], Any]): Function that reads a file of torch.save.

    Returns:
        tuple[dict[str, Any], dict[str, str]]: The checkpoint without tensors, and the SHA-256 of every other file.

    Raises:
        CheckpointError: If it is not such a folder.
    """
    folder = Path(folder)
    restore(folder)
    path = folder / PLAIN
    if not path.is_file() and (folder / "rank0.pth").is_file():
        raise CheckpointError(
            f"{folder} was written by an earlier version of maskfeat_plugin in a format of its own. With that version, "
            "resume it once with default_hooks.checkpoint.filename_tmpl='iter_{}.pth' and resume the new file here. To "
            "use the weights alone, convert them with tools/convert_checkpoint.py of that version."
        )
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a sharded checkpoint: it has no {PLAIN}.")
    content = load(path)
    try:
        return dict(content["checkpoint"]), dict(content["digests"])
    except Exception as error:  # the file may hold anything
        raise CheckpointError(f"{path} is not a part of a sharded checkpoint ({error!r}).") from error


def check_shards(folder: str | Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Refuse a folder of shards that is incomplete, damaged, or mixed from several checkpoints.

    Args:
        folder (str | Path): A folder of :func:`write_shards`.
        load (Callable[[Path], Any]): Function that reads a file of torch.save.

    Returns:
        dict[str, Any]: The checkpoint without tensors.

    Raises:
        CheckpointError: If it is refused.
    """
    folder = Path(folder)
    plain, digests = read_plain(folder, load)
    missing = sorted(name for name in {_INDEX, *digests} if not (folder / name).is_file())
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}; copy it again.")
    for name, digest in digests.items():
        if sha256([folder / name]) != digest:
            raise CheckpointError(
                f"{folder / name} is cut off or damaged, or was not written together with {PLAIN}; copy {folder} again."
            )
    stored = _Reader(folder).read_metadata().storage_data
    if not {info.relative_path for info in stored.values()} <= digests.keys():
        raise UnsafeCheckpointError(f"{folder} is refused: its {_INDEX} names files that are not part of it.")
    return plain


def read_shards(folder: str | Path, load: Callable[[Path], Any]) -> dict[str, Any]:
    """Join the shards of all processes.

    Args:
        folder (str | Path): A folder of :func:`write_shards`.
        load (Callable[[Path], Any]): Function that reads a file of torch.save.

    Returns:
        dict[str, Any]: The checkpoint with whole tensors on the CPU.

    Raises:
        CheckpointError: If :func:`check_shards` refuses it.
    """
    folder = Path(folder)
    plain = check_shards(folder, load)
    try:
        tensors = _read_tensors(_Reader(folder))
        if "optimizer" in plain:
            state = tensors.get("optimizer", {}).get("state", {})
            plain["optimizer"]["state"] = {int(number): values for number, values in state.items()}
        return dict(plain, state_dict=tensors["state_dict"])
    except Exception as error:  # an index may say anything
        raise CheckpointError(f"{folder} has shards that do not fit together ({error!r}); copy it again.") from error


def _read_tensors(reader: "_Reader") -> dict[str, Any]:
    """Read all tensors in nested dicts. Unlike torch's ``load``, it does not wait for other processes."""
    index = reader.read_metadata()
    values: dict[str, Any] = {
        key: torch.empty(entry.size, dtype=entry.properties.dtype)
        if isinstance(entry, metadata.TensorStorageMetadata)
        else None
        for key, entry in index.state_dict_metadata.items()
    }
    planner = _Planner(flatten_state_dict=False)
    planner.set_up_planner(values, index, is_coordinator=True)
    reader.set_up_storage_reader(index, is_coordinator=True)
    reader.read_data(planner.create_local_plan(), planner).wait()
    nested: dict[str, Any] = {}
    for key, path in index.planner_data.items():
        node = nested
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = values[key]
    return nested


class _Planner(DefaultLoadPlanner):
    """torch's planner, but values that are not tensors are loaded with ``weights_only=True``."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        self.state_dict[read_item.dest_index.fqn] = torch.load(value, weights_only=True)


class _Reader(filesystem.FileSystemReader):
    """torch's reader, but the index may hold only torch's classes of an index."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> metadata.Metadata:
        path = Path(self.path, _INDEX)
        with open(path, "rb") as file:
            try:
                index = _Unpickler(file).load()
            except UnsafeCheckpointError as error:
                raise UnsafeCheckpointError(f"{path} is refused: {error}") from None
            except Exception as error:  # a damaged file may raise any type
                raise CheckpointError(f"{path} is cut off or damaged ({error!r}); get it again.") from error
        if not isinstance(index, metadata.Metadata):
            raise CheckpointError(f"{path} is not an index of torch.distributed.checkpoint.")
        return index


class _Unpickler(pickle.Unpickler):
    """Unpickler of an index of ``torch.distributed.checkpoint``."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("pathlib", "pathlib._local") and name in _PATHS:
            return _PATHS[name]
        if (module, name) in _CLASSES or (module == "torch" and isinstance(vars(torch).get(name), torch.dtype)):
            return super().find_class(module, name)
        raise UnsafeCheckpointError(
            f"it asks for {module}.{name}, which is no part of an index, and unpickling it could run code."
        )


_CLASSES = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    (filesystem.__name__, "_StorageInfo"),
    *((metadata.__name__, name) for name in (*metadata.__all__, "_MEM_FORMAT_ENCODING")),
}
# The index names the folder in which it was written, perhaps on another system
_PATHS = dict(PosixPath=PurePosixPath, WindowsPath=PureWindowsPath)


def shard_files(folder: Path) -> list[Path]:
    """Return the files of a sharded checkpoint, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def map_values(node: Any, change: Callable[[Any], Any]) -> Any:
    """Copy nested dicts and lists with changed values.

    Args:
        node (Any): Dicts, lists and values.
        change (Callable[[Any], Any]): Function of a value.
    """
    if isinstance(node, dict):
        return {key: map_values(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [map_values(value, change) for value in node]
    return change(node)
