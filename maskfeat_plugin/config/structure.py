"""Checks of the outline of a config: required sections exist, have the right type, and no size is too large."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.machine import physical_memory

from .signatures import mismatches, parameters, short, suggest, written_for
from .walking import flatten, walk

# Sections that mmengine's runner reads, by type. Optional sections may be None
_DICTS = ("model", "train_dataloader", "val_dataloader", "test_dataloader", "optim_wrapper")
_LOOPS = ("train_cfg", "val_cfg", "test_cfg")
_OTHERS = ("default_hooks", "log_processor", "visualizer", "randomness", "env_cfg", "strategy", "auto_scale_lr")
# No layer, image, batch or clip has a larger size; seeds and similar numbers are not sizes
_LARGEST = 1_000_000
_NO_SIZES = ("seed",)
# Number of tensors in a model of thousands of layers; creating more takes minutes, and longer for each
_MOST_TENSORS = 20_000
_DIVISORS = ("std", "target_stds", "temperature")
_MOST_WORKERS = 512


def check_structure(cfg: Config, sections: Sequence[str]) -> None:
    """Check that the sections of a config exist and have the right type, and that no size is too large.

    Args:
        cfg (Config): The config.
        sections (Sequence[str]): Top-level keys that must be there.

    Raises:
        ConfigError: With the wrong key.
    """
    for key in sections:
        if cfg.get(key) is None:
            raise ConfigError(f"{cfg.filename} has no {key}{written_for(key, [name for name in cfg if name != key])}")
    for key in (*_DICTS, *_LOOPS, *_OTHERS):
        _check_kind(cfg.get(key, {}), key, dict, optional=key not in sections)
    _check_kind(cfg.get("default_scope"), "default_scope", str)
    _check_list(cfg.get("custom_hooks"), "custom_hooks")
    for key in ("val_evaluator", "test_evaluator"):
        evaluator = cfg.get(key)
        if not isinstance(evaluator, dict):
            _check_list(evaluator, key)
        elif "type" not in evaluator:
            raise ConfigError(f"{key} has no type{written_for('type', list(evaluator))}")
    _check_hooks(cfg.get("default_hooks") or {})
    _check_schedulers(cfg.get("param_scheduler"))
    if cfg.get("randomness") is not None:
        _check_randomness(cfg.randomness)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(key) is not None:
            _check_dataloader(cfg[key], key)
    for key, node in walk(dict(cfg.items())):
        if "type" in node and not (isinstance(node["type"], str) and node["type"] or callable(node["type"])):
            raise ConfigError(f"{key}.type={short(node['type'])} has to be the name of a registered component.")
    for section in ("model", "train_dataloader", "val_dataloader", "test_dataloader"):
        for key, node in walk(cfg.get(section), section):
            if _holds_sizes(key):
                _check_sizes(node, key)
            _check_divisors(node, key)


@contextmanager
def limited_size() -> Iterator[None]:
    """Stop building modules with a ValueError if their parameters exceed the machine's memory or are too many.

    A parameter is counted when it is registered, before its values are set, so its memory is not yet in use.
    """
    memory = physical_memory()
    tensors = size = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal tensors, size
        if tensor is None or _is_lazy(tensor):
            return
        tensors, size = tensors + 1, size + tensor.numel() * tensor.element_size()
        if size > memory:
            raise ValueError(
                f"its parameters are more than {size / 2**30:.0f} GB, and this machine has {memory / 2**30:.0f} GB of "
                "memory; make it smaller"
            )
        if tensors > _MOST_TENSORS:
            raise ValueError(f"it has more than {_MOST_TENSORS} tensors of parameters; give it fewer layers")

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_lazy(tensor: Tensor) -> bool:
    return nn.parameter.is_lazy(tensor)


def _check_kind(value: object, key: str, kind: type, optional: bool = True) -> None:
    if not isinstance(value, kind) and not (optional and value is None):
        raise ConfigError(f"{key}={short(value)} has to be a {kind.__name__}.")


def _check_list(value: object, key: str) -> None:
    """Check that a value is a list of component configs, or None."""
    if value is None:
        return
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key}={short(value)} has to be a list of dicts.")
    for i, item in enumerate(value):
        if not isinstance(item, dict):
            raise ConfigError(f"{key}[{i}]={short(item)} has to be a dict.")
        if "type" not in item:
            raise ConfigError(f"{key}[{i}]={short(dict(item))} has no type{written_for('type', list(item))}")


def _check_hooks(hooks: dict) -> None:
    for name, hook in hooks.items():
        _check_kind(hook, f"default_hooks.{name}", dict)
        if hook is not None and "type" not in hook:
            raise ConfigError(f"default_hooks.{name} has no type{written_for('type', list(hook))}")


def _check_randomness(randomness: dict) -> None:
    known = parameters(Runner.set_randomness)
    if "seed" not in randomness:
        raise ConfigError(f"randomness has no seed{written_for('seed', list(randomness))}")
    for name in randomness:
        if name not in known:
            raise ConfigError(f"randomness has no setting {name!r}{suggest(name, list(known))}")
    if not isinstance(randomness.get("seed"), int | None):
        raise ConfigError(f"randomness.seed={short(randomness['seed'])} has to be a whole number, or None for any.")
    for wrong in mismatches(randomness, Runner.set_randomness):
        raise ConfigError(f"randomness.{wrong}.")


def _check_schedulers(schedulers: object) -> None:
    """Check that a value is a scheduler, a list of schedulers, or a dict of either for several optimizers."""
    if isinstance(schedulers, dict) and "type" not in schedulers:
        for name, scheduler in schedulers.items():
            if not isinstance(scheduler, dict | list | tuple):
                raise ConfigError(
                    f"param_scheduler.{name}={short(scheduler)}: param_scheduler has to be a dict with a type, or a "
                    "list of such dicts."
                )
            _check_list(scheduler if isinstance(scheduler, list | tuple) else [scheduler], f"param_scheduler.{name}")
    elif not isinstance(schedulers, dict):
        _check_list(schedulers, "param_scheduler")


def _check_dataloader(dataloader: dict, key: str) -> None:
    for name in ("dataset", "sampler"):
        if name not in dataloader and "batch_sampler" not in dataloader:
            raise ConfigError(f"{key} has no {name}{written_for(name, list(dataloader))}")
        _check_kind(dataloader.get(name), f"{key}.{name}", dict, optional="batch_sampler" in dataloader)
    batch_size, workers = dataloader.get("batch_size", 1), dataloader.get("num_workers", 0)
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ConfigError(f"{key}.batch_size={short(batch_size)} has to be a whole number of at least 1.")
    if not isinstance(workers, int) or isinstance(workers, bool) or not 0 <= workers <= _MOST_WORKERS:
        raise ConfigError(f"{key}.num_workers={short(workers)} has to be a whole number from 0 to {_MOST_WORKERS}.")
    for path, node in walk(dataloader["dataset"], f"{key}.dataset"):
        _check_list(node.get("pipeline"), f"{path}.pipeline")
        _check_transforms(node.get("transforms"), f"{path}.transforms")
        for name in ("data_root", "ann_file"):
            _check_kind(node.get(name), f"{path}.{name}", str)
        prefixes = node.get("data_prefix")
        folders = prefixes.values() if isinstance(prefixes, dict) else [prefixes]
        if not all(isinstance(folder, str | None) for folder in folders):
            raise ConfigError(f"{path}.data_prefix={short(prefixes)} has to be a folder or a dict of folders.")


def _check_transforms(transforms: object, key: str) -> None:
    """Check that a value is a list of transforms, or a list of such lists to choose from."""
    if isinstance(transforms, list | tuple) and transforms and all(isinstance(item, list) for item in transforms):
        for i, choice in enumerate(transforms):
            _check_list(choice, f"{key}[{i}]")
    elif not isinstance(transforms, dict):
        _check_list(transforms, key)


def _check_divisors(node: dict, key: str) -> None:
    """Refuse a zero in settings that are used as divisors, of any framework: the first loss would be infinite."""
    for name in _DIVISORS:
        value = node.get(name)
        if any(number == 0 for number in (value if isinstance(value, list | tuple) else [value])):
            raise ConfigError(f"{key}.{name}={short(value)}: the setting is a divisor. No number may be 0.")


def _holds_sizes(key: str) -> bool:
    """Check whether numbers of a part are sizes of tensors; numbers of data sets and samplers count samples."""
    return "." not in key or key.startswith("model.") or ".pipeline[" in key or ".transforms[" in key


def _check_sizes(node: dict, key: str) -> None:
    for name, value in flatten(node):
        sizes = value if isinstance(value, list | tuple) else [value]
        if name.rpartition(".")[2] not in _NO_SIZES and any(isinstance(v, int) and abs(v) > _LARGEST for v in sizes):
            raise ConfigError(f"{key}.{name}={short(value)} is absurdly large. No size may be above {_LARGEST}.")
