"""Length of a training in a config: read and change it."""

from mmengine.config import Config

from maskfeat_plugin.errors import ConfigError


def length_of(cfg: Config) -> int:
    """Return the length of a training: iterations, or epochs if the loop counts epochs.

    Args:
        cfg (Config): Config of training.

    Returns:
        int: The length.

    Raises:
        ConfigError: If ``train_cfg`` has no length.
    """
    loop = cfg.train_cfg
    length = loop.get("max_iters") or loop.get("max_epochs")
    if not length:
        raise ConfigError(f"{cfg.filename}: train_cfg has neither max_iters nor max_epochs. Set one of them.")
    return length


def set_length(cfg: Config, length: int) -> None:
    """Set the length of a training. Warm-up and decay are scaled with it, and the last checkpoint is kept.

    Args:
        cfg (Config): Config of training, changed in place.
        length (int): Length in the unit of :func:`length_of`.

    Raises:
        ConfigError: If ``train_cfg`` has no length.
    """
    factor = length / length_of(cfg)
    key = "max_iters" if cfg.train_cfg.get("max_iters") else "max_epochs"
    cfg.train_cfg[key] = length
    if "max_iters" in cfg and key == "max_iters":
        cfg.max_iters = length
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        for name, least in (("begin", 0), ("end", 2), ("T_max", 1)):
            if name in scheduler:
                scheduler[name] = max(least, round(scheduler[name] * factor))
        if "end" in scheduler:
            scheduler["end"] = max(scheduler["end"], scheduler.get("begin", 0) + 2)
    hooks = cfg.get("default_hooks") or {}
    checkpoint = {**(hooks.get("checkpoint") or dict(type="CheckpointHook"))}
    checkpoint.update(interval=length, by_epoch=key == "max_epochs")
    cfg.default_hooks = {**hooks, "checkpoint": checkpoint}
