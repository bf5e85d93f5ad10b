"""Reading of a config from a file or a name, and from the command line."""

from pathlib import Path

from mmengine.config import Config

from maskfeat_cli.named_configs import describe_unknown
from maskfeat_cli.named_configs import find_config as search_config
from maskfeat_plugin.errors import ConfigError

from .plain_configs import check_bases, check_components, is_plain


def find_config(config: str | Path) -> Path:
    """Find a config file by its path, or a config of this package by its name. An existing file wins over a name.

    Args:
        config (str | Path): A config file, a name of :func:`.named_configs`, or ``maskfeat_plugin::`` and the path of a
            file below the folder of the configs.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If neither exists; the message lists the most similar names.
    """
    path = search_config(config)
    if path is None:
        raise ConfigError(describe_unknown(config))
    return path


def load_config(
    path: str | Path,
    work_dir: str | Path | None = None,
    options: dict | None = None,
    launcher: str = "none",
    amp: bool = False,
    resume: str | Path | None = None,
) -> Config:
    """Read a config file and apply the options of the command line.

    Args:
        path (str | Path): The config file, or the name of a config of this package: see :func:`find_config`.
        work_dir (str | Path, optional): Folder for logs and checkpoints. Defaults to None: the config's ``work_dir``,
            or ``work_dirs/`` and the name of the config file.
        options (dict, optional): Keys such as ``model.backbone.arch`` and their new values, as
            ``mmengine.config.DictAction`` reads them. They are applied last. Defaults to None.
        launcher (str): Launcher of ``mmengine.runner.Runner``. Defaults to "none".
        amp (bool): Whether to train in mixed precision, even if the config does not. Defaults to False.
        resume (str | Path, optional): "auto" to continue from the last checkpoint in the work directory, or a
            checkpoint to continue from. Defaults to None: as in the config.

    Returns:
        Config: The config for :func:`train` or :func:`test`.

    Raises:
        ConfigError: If the file or name does not exist, the file is not a config, or an option does not fit.
    """
    path = find_config(path)
    try:
        if is_plain(path):
            check_bases(path)
        cfg = Config.fromfile(path)
    except ConfigError:
        raise
    except Exception as error:  # a config is code and may raise any type
        raise ConfigError(f"the config file {path} cannot be read: {_describe(error)}") from error
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs", path.stem))
    if amp:
        if "optim_wrapper" not in cfg:
            raise ConfigError(f"--amp: the config file {path} has no optim_wrapper.")
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    if resume is not None:
        cfg.resume = True
        cfg.load_from = None if resume == "auto" else str(resume)
    try:
        cfg.merge_from_dict(options or {})
    except Exception as error:  # mmengine checks neither the keys nor their depth
        raise ConfigError(f"--cfg-options does not fit {path}: {_describe(error)}") from error
    if is_plain(path):
        check_components(cfg)
    return cfg


def _describe(error: Exception) -> str:
    """Describe an error of reading a file on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
