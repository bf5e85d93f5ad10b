"""Safetensors files: named tensors and text, which are read without pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from .errors import CheckpointError

SUFFIX = ".safetensors"
_BLOCK = "maskfeat_plugin"  # key of this package's text in the metadata of a file


def is_safetensors(path: str | Path) -> bool:
    """Check by its name whether a file is a safetensors file. An unfinished download has one more ending."""
    return Path(path).name.removesuffix(".unfinished").endswith(SUFFIX)


def read_tensors(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a safetensors file.

    Args:
        path (Path): An existing file.
        map_location (Any): Device of the tensors. Any value that is neither a name nor a device means the CPU.
            Defaults to "cpu".

    Returns:
        dict[str, Any]: The tensors under ``state_dict``, and this package's metadata under the same keys as in a file
        of torch.save.

    Raises:
        CheckpointError: If the file is cut off or damaged. Only files of this package have a digest of their tensors;
            in other files a damaged weight is not found.
    """
    device = str(map_location) if isinstance(map_location, str | torch.device) else "cpu"
    try:
        with safe_open(path, "pt") as file:
            block = json.loads((file.metadata() or {}).get(_BLOCK, "{}"))
        state = load_file(path, device=device)
        if block.pop("digest", None) not in (None, _digest(state)):
            raise ValueError("its tensors differ from the tensors that were written")
    except Exception as error:  # a damaged file may raise any type
        cause = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path} is not a file of safetensors, or is cut off or damaged ({cause}). Get it again."
        ) from error
    return {"state_dict": state, "meta": {_BLOCK: block}}


def write_tensors(path: Path, state: Mapping[str, Tensor], block: Mapping[str, Any]) -> None:
    """Write a safetensors file.

    Args:
        path (Path): The file.
        state (Mapping[str, Tensor]): Contiguous tensors on the CPU that share no memory.
        block (Mapping[str, Any]): This package's metadata: plain values.
    """
    text = json.dumps({**block, "digest": _digest(state)})
    path.write_bytes(save(dict(state), {"format": "pt", _BLOCK: text}))


def _digest(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, types, shapes and values; safetensors has no checksums."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
