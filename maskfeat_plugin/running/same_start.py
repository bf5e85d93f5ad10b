"""Check that all processes of a training run the same code with the same config."""

import hashlib
import json
import os
import socket
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_world_size

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.version import __version__

_PACKAGE = Path(__file__).parents[1]
# Settings that belong to one process, such as the address at which it meets the others
_OWN = ("env_cfg.dist_cfg.",)
_ANY_PATH = "a path of this machine"
_ABSENT = "no value"


def check_same_start(cfg: Config) -> None:
    """Check that all processes have the version, source files and config of process 0. The processes are connected.

    Absolute paths are not compared, because a data set may be in another folder on each machine. Neither is
    ``env_cfg.dist_cfg``. The processes exchange a digest, and the whole texts only if the digests differ.

    Args:
        cfg (Config): The config of this process.

    Raises:
        ConfigError: On all processes, if one differs from process 0. The message names the first difference.
    """
    if get_world_size() == 1:
        return
    start = _describe_start(cfg)
    digests = all_gather_object(hashlib.sha256(json.dumps(start, sort_keys=True).encode()).hexdigest())
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is None:
        return
    starts = all_gather_object((socket.gethostname(), start))
    (first_host, first), (host, second) = starts[0], starts[other]
    name = next(name for name in {**first, **second} if first.get(name, _ABSENT) != second.get(name, _ABSENT))
    what = "version or files of maskfeat_plugin" if name.startswith("maskfeat_plugin") else "config and options"
    raise ConfigError(
        f"{name} is {second.get(name, _ABSENT)} in process {other} on {host}, but {first.get(name, _ABSENT)} in "
        f"process 0 on {first_host}. Start all processes with the same {what}."
    )


def _describe_start(cfg: Config) -> dict[str, str]:
    """Return everything that has to be the same, by its name: version, source files, config keys."""
    values = {key: value for key, value in _flatten(cfg.to_dict()).items() if not f"{key}.".startswith(_OWN)}
    return {"maskfeat_plugin.__version__": __version__, **_digest_sources(), **values}


@cache
def _digest_sources() -> dict[str, str]:
    """Return the beginning of the digest of each Python file of this package, by its name in the package."""
    files = sorted(file for file in _PACKAGE.rglob("*.py") if ".mim" not in file.parts)
    return {
        f"maskfeat_plugin/{file.relative_to(_PACKAGE).as_posix()}": hashlib.sha256(file.read_bytes()).hexdigest()[:12]
        for file in files
    }


def _flatten(value: Any, key: str = "") -> dict[str, str]:
    """Return the innermost values of a config as texts, by their keys."""
    if isinstance(value, dict) and value:
        items = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, list | tuple) and value:
        items = [(f"{key}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {key: _show(value)}
    return {name: text for inner, item in items for name, text in _flatten(item, inner).items()}


def _show(value: Any) -> str:
    if isinstance(value, str) and (os.path.isabs(value) or value.startswith("file://")):
        return _ANY_PATH
    # the address of an object in memory differs between processes
    return (
        repr(value)
        if isinstance(value, str | int | float | bool | bytes | None | dict | list | tuple)
        else str(type(value))
    )
