"""Checks of configs written in YAML or JSON, which are data: to read and to build one runs no code of its author.

A Python config is a program, and whoever starts it trusts it.
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
# Names of components: of a setting that is built, or that mmcv, mmdet and mmpretrain give to Python's eval
_NAMES = re.compile(r"type|constructor|\w+_type|dtype|warp_mode")
_NAME = re.compile(r"[\w./:+-]*")


def is_plain(path: str | Path) -> bool:
    """Check whether a config file is data, by its ending.

    Args:
        path (str | Path): The config file.

    Returns:
        bool: True for YAML and JSON.
    """
    return Path(path).suffix in _ENDINGS


def check_bases(path: Path) -> None:
    """Check that a config of data inherits from data, or from Python configs that are installed.

    Args:
        path (Path): A config file in YAML or JSON. Its ``_base_`` files are checked too.

    Raises:
        ConfigError: If one is a Python file from elsewhere, which would be run, or a file is its own base.
        Exception: Any that mmengine raises for a file that it cannot read.
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
    """The ``_base_`` files of a config as mmengine finds them, with its variables replaced."""
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
    """Check that a config of data names registered components alone, not any function of Python.

    ``type='os.system'`` would call it: mmengine imports what no registry has.

    Args:
        cfg (Config): Config read from YAML or JSON.

    Raises:
        ConfigError: If it names something else. A name that stands for nothing is left to what builds it.
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
    """Check whether a dotted name stands for an object that no registry has."""
    try:
        found = get_object_from_string(name)
    except Exception:  # modules fail in any way when they are imported
        return False
    return found is not None and not any(found is known for known in _registered())


def _registered() -> Iterator[object]:
    """Every component of mmengine's registries and of those below them."""
    pending = [registry for registry in vars(registries).values() if isinstance(registry, Registry)]
    while pending:
        registry = pending.pop()
        yield from registry.module_dict.values()
        pending.extend(registry.children.values())
