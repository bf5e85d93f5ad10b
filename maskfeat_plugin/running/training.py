"""Training and testing of a config with mmengine's runner."""

import logging
import tempfile
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from maskfeat_plugin.config import check, check_built
from maskfeat_plugin.config.folder_data import complete_endings, log_files
from maskfeat_plugin.config.origins import explain, named_errors
from maskfeat_plugin.config.owners import owners_of, with_key_of_component
from maskfeat_plugin.config.structure import limited_size
from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.engine.resumption import choose_checkpoint
from maskfeat_plugin.engine.schedules import fit_schedules, warn_of_schedules
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import is_full_disk
from maskfeat_plugin.locks import hold_folder

from .bad_data import describe_listed, forget_bad_files, list_bad_files, named_data_errors
from .distributed import check_equal_length, connect_processes, describe_lost_contact, launched_rank, launched_share
from .log_streams import go_on_without_log
from .versions import describe_cpu, describe_versions

# Hooks that mmengine registers unless they are None. It cannot handle hooks of other names that are None.
_MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
_FIRST_FILES = 1 << 16  # bytes of the config and the first lines of the log


def build_trainer(cfg: Config) -> Runner:
    """Check a config and build all parts of a training, including data sets and model.

    Args:
        cfg (Config): A config that :func:`load_config` returned.

    Returns:
        Runner: The argument of :func:`train`.

    Raises:
        ConfigError: If the config does not work, or if another training writes to its work directory. See
            :func:`maskfeat_plugin.config.check` for the errors that are found before anything is built.
    """
    launched_share(cfg.get("launcher", "none"))  # sets the rank: the first process holds the folder and prints errors
    check(cfg, "train")
    _make_work_dir(cfg)
    if launched_rank() == 0:
        if cfg.get("work_dir"):
            hold_folder(cfg.work_dir)
        forget_bad_files(cfg)
    connect_processes(cfg)
    complete_endings(cfg)
    list_bad_files(cfg)
    runner = _build_runner(cfg)
    for text in describe_listed(cfg):
        runner.logger.info(text)
    choose_checkpoint(runner)
    _count_accumulation(runner, cfg)
    _check_loop(runner, "train_loop", "train_dataloader", cfg)
    with named_errors(cfg, "does not fit the length of the training", ("param_scheduler",)):
        fit_schedules(runner.train_loop)
        warn_of_schedules(runner.train_loop)
    check_equal_length(runner.train_dataloader, "train_dataloader")
    if cfg.get("val_dataloader") is not None:
        _check_loop(runner, "val_loop", "val_dataloader", cfg)
    check_built(runner, "train")
    _compile(runner)
    return runner


def train(runner: Runner) -> None:
    """Train.

    The first step shows whether all parts of a config fit together. An error until then is an error of the config.

    Args:
        runner (Runner): A runner that :func:`build_trainer` returned.

    Raises:
        ConfigError: For any exception until the first step is done, and later for errors that the data cause. Other
            later exceptions pass unchanged.
    """
    first_step = _FirstStep()
    runner.register_hook(first_step)
    try:
        with named_data_errors(runner.train_dataloader, "train_dataloader"):
            runner.train()
    except ConfigError as error:
        named = with_key_of_component(error, runner)
        if named is error:
            raise
        raise named from error
    except Exception as error:
        lost_contact = isinstance(error, RuntimeError) and describe_lost_contact(error)
        if first_step.is_done or lost_contact or is_full_disk(error):
            raise
        reason = explain(error, runner.cfg, "fails in the first step of training", owners=owners_of(runner))
        raise ConfigError(reason) from error


class _FirstStep(Hook):
    """Hook that records whether a step of training, including the other hooks, is done."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.is_done = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Record that the first step is done."""
        self.is_done = True


def build_tester(cfg: Config) -> Runner:
    """Check a config and build all parts of a test.

    Args:
        cfg (Config): A config that :func:`load_config` returned, with the checkpoint in ``load_from``.

    Returns:
        Runner: Its ``test()`` returns the metrics.

    Raises:
        ConfigError: If the config does not work or has no test.
    """
    launched_share(cfg.get("launcher", "none"))
    check(cfg, "test")
    _make_work_dir(cfg)
    connect_processes(cfg)
    complete_endings(cfg)
    runner = _build_runner(cfg)
    choose_checkpoint(runner)
    _check_loop(runner, "test_loop", "test_dataloader", cfg)
    check_built(runner, "test")
    return runner


def _make_work_dir(cfg: Config) -> None:
    """Make the work directory and write to it as a test, because the runner writes there immediately."""
    try:
        Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cfg.work_dir) as file:
            file.write(bytes(_FIRST_FILES))
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"work_dir={cfg.work_dir!r}: nothing can be written there: {reason}. Give another folder with --work-dir."
        ) from error


def _drop_unset(cfg: Config) -> None:
    """Remove sections and hooks that are None. mmengine expects such sections to be absent."""
    for key in ("env_cfg", "randomness"):
        if cfg.get(key) is None:
            cfg.pop(key, None)
    hooks = cfg.get("default_hooks") or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in _MMENGINE_HOOKS]:
        del hooks[name]


def _build_runner(cfg: Config) -> Runner:
    _drop_unset(cfg)
    with named_errors(cfg, "cannot be built"), limited_size():
        runner = RUNNERS.build(cfg) if "runner_type" in cfg else Runner.from_cfg(cfg)
    for handler in runner.logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:  # file names may not be UTF-8
            handler.stream.reconfigure(errors="backslashreplace")
        if isinstance(handler, logging.StreamHandler):
            go_on_without_log(handler)
    runner.logger.info(describe_versions())
    runner.logger.info(describe_cpu())
    return runner


def _compile(runner: Runner) -> None:
    """Compile the model, as the key ``compile`` of the config says.

    mmengine's runner would compile the whole training step. Dynamo fails in its optimizer, with mmpretrain's models
    too.

    Args:
        runner (Runner): Its config has no key ``compile`` afterwards, so that mmengine compiles nothing. Runners with a
            strategy have compiled the model already.

    Raises:
        ConfigError: If the settings are none of ``torch.compile``.
    """
    settings = runner.cfg.pop("compile", None)
    if not settings or not isinstance(runner, Runner):
        return
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    try:
        model.compile(**({} if settings is True else settings))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"compile={settings!r}: {error}. Give arguments of torch.compile, or True.") from error
    runner.logger.info("The model is compiled: the first steps of training and of validation take longer.")


def _count_accumulation(runner: Runner, cfg: Config) -> None:
    """Scale the learning rate for all samples of a step. mmengine counts only one of the accumulated batches."""
    counts = cfg.get("optim_wrapper", {}).get("accumulative_counts", 1)
    scaling = cfg.get("auto_scale_lr")
    if counts == 1 or not (scaling and scaling.get("enable") and "base_batch_size" in scaling):
        return
    if not isinstance(runner, Runner):  # runners with a strategy scale the learning rate inside the strategy
        return
    for key, value in (
        ("optim_wrapper.accumulative_counts", counts),
        ("auto_scale_lr.base_batch_size", scaling.base_batch_size),
    ):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{key}={value!r} has to be a positive whole number.")
    # Only in the runner: the config is written to a file, and a training of that file would scale it a second time
    runner.auto_scale_lr = dict(scaling, base_batch_size=scaling.base_batch_size / counts)
    runner.logger.info(f"A step accumulates {counts} batches: the learning rate is scaled for all of their samples.")


def _check_loop(runner: Runner, loop: str, key: str, cfg: Config) -> None:
    """Build a loop with its data set. Raise an error if the data set is empty or its first sample cannot be read."""
    empty = f"{key}.dataset is empty: {_source(cfg[key].dataset)} gives no samples."
    split = key.partition("_")[0]
    sections = (key, f"{split}_cfg", f"{split}_evaluator")
    with named_errors(cfg, "cannot be built", sections):
        try:
            dataloader = getattr(runner, loop).dataloader
        except ValueError as error:
            if "need at least one array to concatenate" in str(error):  # mmengine raises this for an empty data set
                raise ConfigError(empty) from error
            raise
    dataset = dataloader.dataset
    if len(dataset) == 0:
        raise ConfigError(empty)
    log_files(dataset, f"{key}.dataset")
    with (
        named_errors(
            cfg,
            f"fails on the first sample, {_file(dataset)}",
            (f"{key}.dataset",),
            lambda: owners_of(runner),
        ),
        named_data_errors(dataloader, key),
    ):
        dataset[0]


def _file(dataset: object) -> str:
    """Return the file of the first sample, for a message."""
    if not hasattr(dataset, "get_data_info"):
        return "number 0"
    try:
        info = dataset.get_data_info(0)
    except Exception:  # reading the sample raises the same error, which is reported then
        return "number 0"
    return printable(sample_path(info) or "number 0")


def _source(dataset: dict) -> str:
    """Return the settings that name the files of a data set, for a message."""
    settings = (f"{key}={dataset[key]!r}" for key in ("data_root", "ann_file", "data_prefix") if dataset.get(key))
    return ", ".join(settings) or dataset["type"]
