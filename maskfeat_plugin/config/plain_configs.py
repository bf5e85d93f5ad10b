"""Checks of configs in YAML or JSON. They are data: reading and building one must not run code of its author.

A Python config is a program. Start it only if you trust its author.
"""

import re
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.errors import ConfigError

from .signatures import short
from .walking import walk

_ENDINGS = (".yaml", ".yml", ".json")
# Keys with names of components: settings that are built, or that mmcv, mmdet and mmpretrain pass to Python's eval
_NAMES = re.compile(r"type|constructor|\w+_type|dtype|warp_mode")
_NAME = re.compile(r"[\w./:+-]*")


def is_plain(path: str | Path) -> bool:
    """Check by its ending whether a config file is data and not a program.

    Args:
        path (str | Path): The config file.

    Returns:
        bool: True for YAML and JSON.
    """
    return Path(path).suffix in _ENDINGS


def check_bases(path: Path) -> None:
    """Check that a config in YAML or JSON inherits only from such files, or from installed Python configs.

    Args:
        path (Path): A config file in YAML or JSON. Its ``_base_`` files are checked too.

    Raises:
        ConfigError: If a base is another Python file, which would be run, or a file is its own base.
        Exception: Any error that mmengine raises for a file that it cannot read.
    """
    _check_bases(path, ())


def _check_bases(path: Path, around: tuple[Path, ...]) -> None:
    if path.resolve() in around:
        raise ConfigError(f"the config file {path} is its own _base_. Remove it from its _base_.")
    for base in _bases(path):
        if is_plain(base):
            _check_bases(base, (*around, path.resolve()))
        elif not any(base.resolve().is_relative_to(folder) for folder in _installed()):
            raise ConfigError(
                f"the config file {path} is data, but its _base_ {base} is a program that would be run. If you trust "
                f"that program, write {path} as a Python config."
            )


def _installed() -> tuple[Path, ...]:
    return configs_folder().resolve(), Path(sysconfig.get_path("purelib")).resolve()


def _bases(path: Path) -> Iterator[Path]:
    """Yield the ``_base_`` files of a config as mmengine finds them, with its variables replaced."""
    with tempfile.TemporaryDirectory() as folder:
        copy = str(Path(folder, f"config{path.suffix}"))
        Config._substitute_predefined_vars(str(path.absolute()), copy)
        Config._substitute_env_variables(copy, copy)
        Config._pre_substitute_base_vars(copy, copy)
        content = load(copy)
    if not isinstance(content, dict):
        raise ConfigError(f"the config file {path} holds no settings. Write each as name: value.")
    names = content.get("_base_", [])
    for name in names if isinstance(names, list) else [names]:
        yield Path(Config._get_cfg_path(str(name), str(path.absolute()))[0])


def check_components(cfg: Config) -> None:
    """Check that a config in YAML or JSON names only registered components, and not other functions of Python.

    Without this check ``type='os.system'`` would call that function, because mmengine imports unregistered names.

    Args:
        cfg (Config): Config read from YAML or JSON.

    Raises:
        ConfigError: If it names another object. A name without an object is left to the builder, which reports it.
    """
    for key, node in walk(dict(cfg.items())):
        for name, value in node.items():
            if not isinstance(value, str) or not _NAMES.fullmatch(str(name)):
                continue
            where = f"{key}.{name}" if key else name
            if not _NAME.fullmatch(value):
                raise ConfigError(f"{where}={short(value)} of {cfg.filename} is not a name. Give a name.")
            if "." in value and _is_foreign(value):
                raise ConfigError(
                    f"{where}={value!r} of {cfg.filename} is not a registered component. Register it in a module of "
                    "custom_imports, or write a Python config."
                )


def _is_foreign(name: str) -> bool:
    """Check whether a dotted name is the name of an object that no registry has."""
    try:
        found = get_object_from_string(name)
    except Exception:  # importing a module may raise any type
        return False
    return found is not None and not any(found is known for known in _registered())


def _registered() -> Iterator[object]:
    """Yield every component of mmengine's registries and their child registries."""
    pending = [registry for registry in vars(registries).values() if isinstance(registry, Registry)]
    while pending:
        registry = pending.pop()
        yield from registry.module_dict.values()
        pending.extend(registry.children.values())
