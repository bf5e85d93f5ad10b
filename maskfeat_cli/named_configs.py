"""Configs of the package by name. Nothing heavy is imported here, since commands look for their config first."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

from .config_files import PREFIX, config_path
from .folders import configs_folder


def named_configs() -> dict[str, Path]:
    """Return the configs of this package that can be trained: name -> file. The name is the file's, without ``.py``.

    Old names are left out, see :func:`is_old_name`.
    """
    return {path.stem: path for path in _config_files() if not is_old_name(path)}


def is_old_name(path: Path) -> bool:
    """Check whether a config file only gives a former name to another config."""
    return path.read_text().startswith('"""Old name of ')


def find_config(config: str | Path) -> Path | None:
    """Find a config file by its path, or a config of this package by its name. A file that exists wins over a name.

    Args:
        config (str | Path): A config file, a name of :func:`named_configs`, or ``maskfeat_plugin::`` and the path of a
            file below the folder of the configs.

    Returns:
        Path | None: The file, or None if it is not found. :func:`describe_unknown` then describes the problem.
    """
    if Path(config).is_file():
        return Path(config)
    if str(config).startswith(PREFIX):
        path = config_path(str(config))
        return path if path.is_file() else None
    return next((path for path in _config_files() if path.stem == str(config)), None)  # old names too


def describe_unknown(config: str | Path) -> str:
    """Describe the problem of a config that does not exist, with the most similar names.

    Args:
        config (str | Path): The path or the name that was given.

    Returns:
        str: The message of an error.
    """
    if str(config).startswith(PREFIX):
        return f"{config}: there is no file {config_path(str(config))}. maskfeat configs lists the configs."
    path = Path(config)
    if path.is_dir():
        return f"the config {config} is a folder. Give a config file, or the name of a config."
    is_path = path.suffix == ".py" or len(path.parts) > 1
    name = path.stem if is_path else str(config)

    def likeness(known: str) -> float:  # a name that was cut short is compared with the beginning
        return max(SequenceMatcher(None, name, part).ratio() for part in (known, known[: len(name)]))

    near = [known for known in sorted(named_configs(), key=likeness, reverse=True)[:3] if likeness(known) > 0.6]
    wrong = f"the config file {config} does not exist" if is_path else f"there is no config of the name {str(config)!r}"
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return f"{wrong}{hint} list_models() returns all names. The files are in {configs_folder()}."


def _config_files() -> list[Path]:
    return [path for path in sorted(configs_folder().rglob("*.py")) if "_base_" not in path.parts]
