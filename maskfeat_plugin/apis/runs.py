"""Training and testing of a config with mmengine's runner."""

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .checks import check_config
from .errors import ConfigError, describe
from .processes import check_equal_length, connect_processes

# What a component raises that does not like its settings
_BUILD_ERRORS = (ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError)


def build_trainer(cfg: Config) -> Runner:
    """Check a config and build all that training needs, data sets and model included.

    Args:
        cfg (Config): Config of :func:`load_config`.

    Returns:
        Runner: Its ``train()`` trains.

    Raises:
        ConfigError: If the config does not work; see :func:`check_config` for what is found before anything is built.
    """
    if cfg.get("train_cfg") is None or cfg.get("train_dataloader") is None:
        raise ConfigError(f"{cfg.filename} has no train_cfg and train_dataloader; it cannot be trained.")
    connect_processes(cfg)
    check_config(cfg, ("train_dataloader", "val_dataloader"))
    runner = _build_runner(cfg)
    _count_accumulation(runner, cfg)
    _check_loop(runner, "train_loop", "train_dataloader", cfg)
    check_equal_length(runner.train_dataloader, "train_dataloader")
    if cfg.get("val_dataloader") is not None:
        _check_loop(runner, "val_loop", "val_dataloader", cfg)
    return runner


def build_tester(cfg: Config) -> Runner:
    """Check a config and build all that testing needs.

    Args:
        cfg (Config): Config of :func:`load_config`, with the checkpoint in ``load_from``.

    Returns:
        Runner: Its ``test()`` gives the metrics.

    Raises:
        ConfigError: If the config does not work or has no test.
    """
    if cfg.get("test_dataloader") is None or cfg.get("test_cfg") is None:
        raise ConfigError(
            f"{cfg.filename} has no test_dataloader and test_cfg: a pre-training config has nothing to test; give the "
            "config of a fine-tuned model."
        )
    connect_processes(cfg)
    check_config(cfg, ("test_dataloader",))
    runner = _build_runner(cfg)
    _check_loop(runner, "test_loop", "test_dataloader", cfg)
    return runner


def _build_runner(cfg: Config) -> Runner:
    try:
        return RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    except _BUILD_ERRORS as error:
        raise ConfigError(f"{cfg.filename} cannot be built: {describe(error)}") from error


def _count_accumulation(runner: Runner, cfg: Config) -> None:
    """Have the learning rate scaled for all the samples of a step; mmengine counts one of the accumulated batches."""
    counts = cfg.get("optim_wrapper", {}).get("accumulative_counts", 1)
    scaling = cfg.get("auto_scale_lr")
    if counts == 1 or not (scaling and scaling.get("enable") and "base_batch_size" in scaling):
        return
    if not isinstance(runner, Runner):  # the strategies of others keep it to themselves
        return
    # in the runner alone: the config that it writes out would be scaled once more where it is trained again
    runner.auto_scale_lr = dict(scaling, base_batch_size=scaling.base_batch_size / counts)
    runner.logger.info(f"A step accumulates {counts} batches: the learning rate is scaled for all of their samples.")


def _check_loop(runner: Runner, loop: str, key: str, cfg: Config) -> None:
    """Build a loop with its data set, and refuse one that is empty or whose first sample cannot be read."""
    empty = f"{key}.dataset is empty: {_source(cfg[key].dataset)} gives no samples."
    try:
        dataset = getattr(runner, loop).dataloader.dataset
    except _BUILD_ERRORS as error:
        if "need at least one array to concatenate" in str(error):  # mmengine packing a list of no samples
            raise ConfigError(empty) from error
        raise ConfigError(f"{key} of {cfg.filename} cannot be built: {describe(error)}") from error
    if len(dataset) == 0:
        raise ConfigError(empty)
    try:
        dataset[0]
    except Exception as error:  # a pipeline is anybody's code and fails in any way
        info = dataset.get_data_info(0) if hasattr(dataset, "get_data_info") else {}
        file = info.get("filename") or info.get("img_path") or "number 0"
        raise ConfigError(
            f"{key}.dataset.pipeline fails on the first sample, {file}: {type(error).__name__}: {describe(error)}"
        ) from error


def _source(dataset: dict) -> str:
    """Where a data set comes from, for a message."""
    settings = (f"{key}={dataset[key]!r}" for key in ("data_root", "ann_file", "data_prefix") if dataset.get(key))
    return ", ".join(settings) or dataset["type"]
