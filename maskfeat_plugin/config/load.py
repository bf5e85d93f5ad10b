"""From a config file, or its name, and a command line to one config."""

from difflib import SequenceMatcher
from pathlib import Path

from mmengine.config import Config

from maskfeat_cli.config_files import PREFIX, config_path
from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.errors import ConfigError

from .plain_configs import check_bases, check_components, is_plain


def named_configs() -> dict[str, Path]:
    """Return every config of this package that can be trained, by its name: that of its file, without ``.py``.

    Old names, see :func:`is_old_name`, are not among them.
    """
    return {path.stem: path for path in _config_files() if not is_old_name(path)}


def is_old_name(path: Path) -> bool:
    """Check whether a config file only gives another one under its former name."""
    return path.read_text().startswith('"""Old name of ')


def _config_files() -> list[Path]:
    return [path for path in sorted(configs_folder().rglob("*.py")) if "_base_" not in path.parts]


def find_config(config: str | Path) -> Path:
    """Find a config file by its path, or a config of this package by its name. A file that exists wins over a name.

    Args:
        config (str | Path): A config file, a name of :func:`named_configs`, or ``maskfeat_plugin::`` and the path of a
            file below the folder of the configs.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If there is none of these.
    """
    if Path(config).is_file():
        return Path(config)
    if str(config).startswith(PREFIX):
        try:
            return config_path(str(config))
        except FileNotFoundError as error:
            raise ConfigError(str(error)) from error
    for path in _config_files():  # old names too
        if path.stem == str(config):
            return path
    if Path(config).is_dir():
        raise ConfigError(f"the config {config} is a folder. Give a config file, or the name of a config.")
    raise unknown_config(config)


def unknown_config(config: str | Path) -> ConfigError:
    """Build the error of a config that does not exist.

    Args:
        config (str | Path): The path or the name that was given.

    Returns:
        ConfigError: With the names that are most like it.
    """
    path = Path(config)
    is_path = path.suffix == ".py" or len(path.parts) > 1
    name = path.stem if is_path else str(config)

    def likeness(known: str) -> float:  # to a name or, of one that was cut short, to its beginning
        return max(SequenceMatcher(None, name, part).ratio() for part in (known, known[: len(name)]))

    near = [known for known in sorted(named_configs(), key=likeness, reverse=True)[:3] if likeness(known) > 0.6]
    wrong = f"the config file {config} does not exist" if is_path else f"there is no config of the name {str(config)!r}"
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return ConfigError(f"{wrong}{hint} list_models() has all names, those of the files in {configs_folder()}.")


def load_config(
    path: str | Path,
    work_dir: str | None = None,
    options: dict | None = None,
    launcher: str = "none",
    amp: bool = False,
    resume: str | None = None,
) -> Config:
    """Read a config file and merge into it what the command line says.

    Args:
        path (str | Path): The config file, or the name of a config of this package: see :func:`find_config`.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to None: the config's ``work_dir``, or
            ``work_dirs/`` and the name of the config file.
        options (dict, optional): Keys such as ``model.backbone.arch`` and the values to put in their place, as
            ``mmengine.config.DictAction`` reads them. They come last. Defaults to None.
        launcher (str): Launcher of ``mmengine.runner.Runner``. Defaults to "none".
        amp (bool): Whether to train in mixed precision whatever the config says. Defaults to False.
        resume (str, optional): "auto" to go on from the last checkpoint in the work directory, or a checkpoint to go
            on from. Defaults to None: what the config says.

    Returns:
        Config: The config for :func:`train` or :func:`test`.

    Raises:
        ConfigError: If there is no such file or name, the file is no config, or an option does not fit.
    """
    path = find_config(path)
    try:
        if is_plain(path):
            check_bases(path)
        cfg = Config.fromfile(path)
    except ConfigError:
        raise
    except Exception as error:  # a config is code and fails in any way
        raise ConfigError(f"the config file {path} cannot be read: {_describe(error)}") from error
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs", path.stem))
    if amp:
        if "optim_wrapper" not in cfg:
            raise ConfigError(f"--amp: the config file {path} has no optim_wrapper.")
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if resume is not None:
        cfg.resume = True
        cfg.load_from = None if resume == "auto" else resume
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:  # mmengine checks neither the keys nor their depth
        raise ConfigError(f"--cfg-options does not fit {path}: {_describe(error)}") from error
    if is_plain(path):
        check_components(cfg)
    return cfg


def _describe(error: Exception) -> str:
    """Describe an error of reading a file in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
