"""From a config file and a command line to one config."""

from pathlib import Path

from mmengine.config import Config

from maskfeat_plugin.errors import ConfigError


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
        path (str | Path): The config file.
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
        ConfigError: If the file is missing or is no config, or an option does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"the config file {path} does not exist.")
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code and fails in any way
        raise ConfigError(f"the config file {path} cannot be read: {type(error).__name__}: {error}") from error
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
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"--cfg-options does not fit {path}: {error}") from error
    return cfg
