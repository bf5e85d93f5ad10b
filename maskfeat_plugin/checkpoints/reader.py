"""Safe reading of a checkpoint of any known format into the canonical names."""

import hashlib
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.fileio import get_file_backend
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from maskfeat_plugin.downloads import DownloadError, fetch, hash_in_name
from maskfeat_plugin.errors import describe
from maskfeat_plugin.files import restore, sha256, whole_file
from maskfeat_plugin.storage import PREFIXES

from .errors import CheckpointError, UnsafeCheckpointError
from .formats import FINETUNE, PRETRAIN, Format, last_scale_of, reason_to_drop, recognise
from .names import inner_name
from .records import DamagedRecordsError, check_records, is_archive
from .refused import refuse_by_name, refuse_by_shape
from .safe_files import is_safetensors, read_tensors
from .sharded import SUFFIX, is_sharded, read_shards
from .variants import unify

# Keys under which projects store the weights in a file: mmengine, PySlowFast, others, DINO.
_STATE_KEYS = ("state_dict", "model_state", "model", "teacher")


@dataclass
class Checkpoint:
    """Weights with canonical names, and their origin.

    Attributes:
        source: File or URL that they were read from.
        format: Format of the file.
        task: "pretrain" if the weights are from pre-training (a mask token or prediction layer, or the metadata, shows
            it), else "finetune".
        state: Canonical name -> tensor.
        origins: Canonical name -> the names in the file that the tensor was made from.
        dropped: Name in the file -> why it is not needed.
        unknown: Names in the file that do not belong to its format.
        position_grid: Grid (T, H, W) of the absolute positions if the file determines it.
        meta: Metadata that this package's writer stored in the file, empty if there is none.
    """

    source: str
    format: Format
    task: str
    state: dict[str, Tensor]
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    position_grid: tuple[int, int, int] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Return the model family: "vit" or "mvit"."""
        return self.format.family

    @property
    def last_scale(self) -> int | None:
        """Return the index of the last scale with a norm, for an MViT; None without one."""
        scales = [re.fullmatch(r"backbone\.norm(\d+)\.weight", key) for key in self.state]
        return max((int(m.group(1)) for m in scales if m), default=None)


def read_checkpoint(source: str | Path, prefix: str | None = None) -> Checkpoint:
    """Read a checkpoint of any known format.

    Args:
        source (str | Path): Path or URL. A file from http or https is downloaded into torch's cache.
        prefix (str, optional): Only the keys with this prefix are read, and the prefix is removed, as mmengine's
            ``Pretrained`` does, for a model inside a larger one. Defaults to None.

    Returns:
        Checkpoint: The weights with canonical names.

    Raises:
        FileNotFoundError: If the file does not exist.
        UnsafeCheckpointError: If the file holds more than weights and plain values.
        CheckpointError: If the file is not a checkpoint, is cut off, has no known format, or no key has the prefix.
    """
    content = load_file(local_file(source))
    state, cfg, meta = _weights(content, str(source))
    if prefix:
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not inside:
            raise CheckpointError(f"{source}: no key begins with prefix={prefix!r}; the first is {next(iter(state))}.")
        state = inside
    return from_state_dict(state, str(source), cfg=cfg, meta=meta)


def from_state_dict(
    state: Mapping[str, Tensor],
    source: str = "state dict",
    *,
    cfg: str | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Translate a state dict of any known format to canonical names.

    Args:
        state (Mapping[str, Tensor]): Key names and tensors; the tensors are not copied.
        source (str): Origin of the state dict, for messages. Defaults to "state dict".
        cfg (str, optional): The YAML text that PySlowFast stores beside the weights, "" for a file of PySlowFast
            without it. Defaults to None: any project.
        meta (Mapping[str, Any], optional): Metadata of this package's writer. Defaults to None.

    Returns:
        Checkpoint: The weights.

    Raises:
        CheckpointError: If the keys have no known format, or two keys have the same meaning.
    """
    refuse_by_name([key.removeprefix("module.") for key in state], source)
    state, origins = unify(state, source)
    meta = dict(meta or {})
    form = recognise(state.keys(), source, slowfast=cfg is not None or meta.get("target") == "slowfast")
    table = form.names(last_scale_of(state, cfg))
    canonical: dict[str, Tensor] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    dropped: dict[str, str] = {}
    unknown: list[str] = []
    for key, value in state.items():
        name = table.to_canonical(inner_name(key))
        reason = reason_to_drop(key)
        if name in canonical:
            raise CheckpointError(f"{source}: {made_of[name][0]} and {origins[key][0]} both mean {name}.")
        if name is not None:
            canonical[name] = value
            made_of[name] = origins[key]
        elif reason is not None:
            dropped.update((old, reason) for old in origins[key])
        else:
            unknown.extend(origins[key])
    if form.project == "timm":
        refuse_by_shape(canonical, source)
        canonical = _with_class_position(canonical)
    task = meta.get("task")  # stored by this package's writer, because a plain backbone does not show it
    if task not in (PRETRAIN, FINETUNE):
        pretrain = any(key.endswith("mask_token") or key.startswith("neck.") for key in canonical)
        task = PRETRAIN if pretrain else FINETUNE
    return Checkpoint(
        source=source,
        format=form,
        task=task,
        state=canonical,
        origins=made_of,
        dropped=dropped,
        unknown=unknown,
        position_grid=_position_grid(canonical),
        meta=meta,
    )


def local_file(source: str | Path) -> Path:
    """Return the local file of a path or URL. If torch's cache lacks the file, it is downloaded.

    Args:
        source (str | Path): Path, or URL (s3, gs, hf, http, https or file).

    Returns:
        Path: An existing file, or the folder of a sharded checkpoint.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the URL's scheme is unknown, its file cannot be downloaded, or its hash differs from the
            hash in its name.
        StorageError: If the storage of the URL cannot be used.
    """
    url = urlparse(str(source))
    scheme = url.scheme
    if scheme in ("http", "https"):
        return _download(str(source))
    if scheme in PREFIXES:
        return _copy(str(source))
    if scheme == "file":
        if url.netloc not in ("", "localhost") or not url.path:
            raise CheckpointError(f"{source}: the URL of a file has three slashes: file:///FOLDER/FILE.")
        source = url2pathname(url.path)
        expected = hash_in_name(source)
        if expected and Path(source).is_file() and not sha256([source]).startswith(expected):
            raise CheckpointError(
                f"{source}: its SHA-256 does not begin with {expected}, as its name says; get it again."
            )
    if "://" in str(source):
        raise CheckpointError(
            f"{source}: the scheme {scheme!r} is not supported; give a path or a URL of "
            f"{', '.join(PREFIXES)}, http, https or file."
        )
    path = Path(source).expanduser()
    if is_sharded(path):
        restore(path)
        if path.is_dir():
            return path
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"The checkpoint {path} {what}; give the path or URL of a file.")
    return path


def _download(url: str) -> Path:
    """Download a file once: the first process downloads it, and the others use a file with the same content."""
    rank, _ = get_dist_info()
    found: list[Any] = [None, None]
    path = None

    if rank == 0:
        try:
            path, found[0] = fetch(url, partial(_check, url))
        except Exception as error:  # the other processes wait for the result
            found[1] = error if isinstance(error, CheckpointError) else CheckpointError(describe(error))
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    try:
        # the cache of another machine may lack the file
        return path or fetch(url, partial(_check, url), digest=found[0])[0]
    except DownloadError as error:
        raise CheckpointError(str(error)) from error


def _copy(address: str) -> Path:
    """Copy a file from object storage once. Another version of the object gets another name."""
    backend = get_file_backend(address)
    version = backend.call(address, lambda system, path: system.ukey(path))
    mark = hashlib.sha256(f"{address} {version}".encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir(), "checkpoints", f"{mark}-{Path(address).name}")
    if not path.is_file():
        with whole_file(path) as unfinished:
            backend.copyfile_to_local(address, unfinished)
            _check(address, unfinished)
    return path


def _check(address: str, path: Path) -> None:
    """Read a downloaded file. An error names its address."""
    try:
        load_file(path)
    except CheckpointError as error:
        raise type(error)(str(error).replace(str(path), address)) from None


def read_state(source: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint of any project, with their names in the file.

    Args:
        source (str | Path): Path or URL.

    Returns:
        dict[str, Tensor]: The state dict, which is the whole file or is under ``state_dict``, ``model_state``,
            ``model`` or ``teacher``.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file is not a checkpoint, or holds no weights.
    """
    return _weights(load_file(local_file(source)), str(source))[0]


def load_file(path: Path, mmap: bool = False, tensors: bool = True, map_location: Any = "cpu") -> Any:
    """Load a file with ``torch.load(weights_only=True)`` after checking its checksums, and raise one clear error.

    For a ``.safetensors`` file it returns the tensors under ``state_dict``.

    Args:
        path (Path): An existing file, or the folder of a sharded checkpoint.
        mmap (bool): Whether tensors are read only where they are used, if the file's format allows it. Defaults to
            False.
        tensors (bool): Whether to check the checksums of the tensors too. Defaults to True.
        map_location (Any): Device of the tensors, as in ``torch.load``. Defaults to "cpu".

    Returns:
        Any: The content of the file, with the tensors of shards joined.

    Raises:
        UnsafeCheckpointError: If the file holds more than weights and plain values.
        CheckpointError: If the file is not a checkpoint, is cut off, or is damaged anywhere. Formats before torch 1.6,
            and safetensors of other projects, have no checksums, so a damaged weight in them is not found.
    """
    if is_safetensors(path):
        return read_tensors(path, map_location)
    if is_sharded(path) or path.is_dir():
        return read_shards(path, lambda file: load_file(file, mmap, tensors, map_location))
    try:
        if is_archive(path):
            archive = check_records(path, tensors)
            mmap = mmap and archive.is_mappable
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        with open(path, "rb") as file:
            content = torch.load(file, map_location=map_location, weights_only=True)
            if file.read(1):
                raise DamagedRecordsError("it goes on after its end")
            return content
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from None
    except Exception as error:  # a damaged file may raise any type
        cause = str(error).split(". ")[0].split("\n")[0] or type(error).__name__
        raise CheckpointError(_NOT_A_CHECKPOINT.format(path=path, cause=cause)) from None


@CheckpointLoader.register_scheme(prefixes=rf".*\{SUFFIX}/?$")
def load_from_sharded(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a sharded checkpoint for mmengine, whose runners resume with it.

    Args:
        filename (str): The folder.
        map_location (Any): Device of the tensors, as in ``torch.load``. Defaults to None: the CPU.

    Returns:
        dict[str, Any]: The checkpoint with whole tensors.

    Raises:
        FileNotFoundError: If the folder does not exist.
        CheckpointError: As :func:`read_shards`.
    """
    folder = Path(filename)
    restore(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"The sharded checkpoint {filename} does not exist.")
    return load_file(folder, map_location=map_location or "cpu")


@CheckpointLoader.register_scheme(prefixes=(r"(\S+\:)?s3://", "gs://", "hf://"), force=True)  # mmengine uses petrel
@CheckpointLoader.register_scheme(prefixes=(r".*\.safetensors$", r"https?://[^?#]*\.safetensors([?#].*)?$"))
def load_from_anywhere(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a safetensors file, or a checkpoint in object storage, for ``load_from``, ``resume`` and ``init_cfg``.

    Args:
        filename (str): Path or URL.
        map_location (Any): Device of the tensors, as in ``torch.load``. Defaults to None: the CPU.

    Returns:
        dict[str, Any]: The tensors under ``state_dict``.

    Raises:
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file is damaged, or cannot be downloaded.
        StorageError: If the storage of the file cannot be used.
    """
    return load_file(local_file(filename), map_location=map_location or "cpu")


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    """Return the error for a file that torch refuses to unpickle."""
    unsafe = re.search(r"GLOBAL (\S+)|(getattr\(.*\))|class (\S+)", str(error))
    if unsafe:
        what = next(group for group in unsafe.groups() if group)
        return UnsafeCheckpointError(
            f"{path} is refused: it asks for {what}, which is neither a weight nor a plain value, and unpickling "
            "it could run code. Ask its author for a file with the state dict alone."
        )
    with open(path, "rb") as file:
        is_pickle = file.read(1) == b"\x80"
    if is_pickle:
        return UnsafeCheckpointError(
            f"{path} is refused: it is a plain pickle and not a file of torch.save, and unpickling it could run "
            "code. Ask its author for a file of torch.save with the state dict alone."
        )
    cause = str(error).split(". ")[0].split("\n")[0]
    return CheckpointError(_NOT_A_CHECKPOINT.format(path=path, cause=cause))


_NOT_A_CHECKPOINT = "{path} is not a checkpoint of torch.save, or is cut off or damaged ({cause}). Get it again."


def _weights(content: Any, source: str) -> tuple[dict[str, Tensor], str | None, dict[str, Any]]:
    """Return the state dict, PySlowFast's config and this package's metadata of a loaded file."""
    cfg: str | None = None
    meta: Any = {}
    state = content
    if isinstance(content, Mapping):
        if isinstance(content.get("cfg"), str):
            cfg = content["cfg"]
        if isinstance(content.get("meta"), Mapping):
            meta = content["meta"].get("maskfeat_plugin", {})
        for key in _STATE_KEYS:
            if isinstance(content.get(key), Mapping):
                state = content[key]
                cfg = "" if key == "model_state" and cfg is None else cfg  # PySlowFast's file
                break
    tensors = {}
    if isinstance(state, Mapping):
        tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        has = f"the keys {list(content)[:5]}" if isinstance(content, Mapping) else type(content)
        raise CheckpointError(
            f"{source} holds no weights: expected a state dict, bare or under one of {_STATE_KEYS}, but it has {has}."
        )
    return tensors, cfg, meta if isinstance(meta, dict) else {}


def _with_class_position(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add a position of zero for the class token, if it has no position (DeiT III)."""
    cls_token, positions = state.get("backbone.cls_token"), state.get("backbone.pos_embed")
    if cls_token is None or positions is None or math.isqrt(positions.shape[1]) ** 2 != positions.shape[1]:
        return state
    return {**state, "backbone.pos_embed": torch.cat((torch.zeros_like(positions[:, :1]), positions), dim=1)}


def _position_grid(state: Mapping[str, Tensor]) -> tuple[int, int, int] | None:
    """Compute the grid of the patch embedding from the relative positions of a first block without query pooling."""
    names = [f"backbone.blocks.0.attn.rel_pos_{axis}" for axis in "thw"]
    if not all(name in state for name in names):
        return None
    steps, rows, cols = ((len(state[name]) + 1) // 2 for name in names)
    return steps, rows, cols
