"""Objects that were built from a config, and the keys of the parts that they were built from."""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from maskfeat_plugin.errors import ConfigError

from .key_names import with_keys
from .walking import walk


@dataclass(frozen=True)
class Owner:
    """An object that was built, and the key of its part of the config."""

    object: object
    key: str


def with_key_of_component(error: ConfigError, runner: Runner) -> ConfigError:
    """Replace the argument names in the error of a component, such as a hook, by keys of the config.

    Args:
        error (ConfigError): The error.
        runner (Runner): The runner that holds the component.

    Returns:
        ConfigError: A new error, or the same error if no component raised it.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    component = frame.f_locals.get("self")
    key = next((owner.key for owner in owners_of(runner) if owner.object is component), None)
    if key is None or type(error) is not ConfigError:
        return error
    text = with_keys(str(error), error, key, type(component), dict(walk(dict(runner.cfg.items()))))
    return ConfigError(text) if text != str(error) else error


def owners_of(runner: Runner) -> list[Owner]:
    """List the objects that a runner has built so far, each with the key of its part of the config.

    Args:
        runner (Runner): It may be half built: loops, optimizer and schedulers are built when they are first needed.

    Returns:
        list[Owner]: Model and its modules, loops, data sets, transforms, optimizer, schedulers, hooks, log processor.
    """
    cfg, get = runner.cfg, vars(runner).get
    owners = [Owner(get("log_processor"), "log_processor"), Owner(get("visualizer"), "visualizer")]
    for split in ("train", "val", "test"):
        loop = get(f"_{split}_loop")
        if loop is None or isinstance(loop, dict):
            continue
        owners.append(Owner(loop, f"{split}_cfg"))
        several = not isinstance(cfg.get(f"{split}_evaluator"), dict)
        for i, metric in enumerate(getattr(getattr(loop, "evaluator", None), "metrics", ())):
            owners.append(Owner(metric, f"{split}_evaluator[{i}]" if several else f"{split}_evaluator"))
        key, loader = f"{split}_dataloader", getattr(loop, "dataloader", None)
        if not isinstance(loader, torch.utils.data.DataLoader):
            continue
        owners += [Owner(loader, key), Owner(loader.sampler, f"{key}.sampler")]
        owners += _dataset_owners(loader.dataset, cfg[key]["dataset"], f"{key}.dataset")
    wrapper = get("optim_wrapper")
    if not isinstance(wrapper, dict):
        owners += [
            Owner(wrapper, "optim_wrapper"),
            Owner(getattr(wrapper, "optimizer", None), "optim_wrapper.optimizer"),
        ]
    schedulers = get("param_schedulers")
    if isinstance(schedulers, list):
        owners += [Owner(scheduler, f"param_scheduler[{i}]") for i, scheduler in enumerate(schedulers)]
    for hook in get("_hooks") or ():
        owners += [
            Owner(hook, key) for key, node in _hook_nodes(cfg) if last_part(node.get("type")) == type(hook).__name__
        ]
    model = get("model")
    if isinstance(model, torch.nn.Module):
        inner = cast(torch.nn.Module, model.module) if is_model_wrapper(model) else model
        owners += module_owners(inner, cfg.get("model"))
    return [owner for owner in owners if owner.object is not None]


def _hook_nodes(cfg: Config) -> Iterator[tuple[str, dict]]:
    for name, node in (cfg.get("default_hooks") or {}).items():
        if isinstance(node, dict):
            yield f"default_hooks.{name}", node
    for i, node in enumerate(cfg.get("custom_hooks") or ()):
        yield f"custom_hooks[{i}]", node


def last_part(kind: object) -> str:
    """Return the name of a component's type without its scope. The type may be a name or a class."""
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")


def module_owners(model: torch.nn.Module, settings: dict) -> Iterator[Owner]:
    """Find the modules whose names are keys of the config, which holds for all modules built from the config.

    Args:
        model (nn.Module): The model.
        settings (dict): Its config.

    Yields:
        Owner: Each module with its key.
    """
    for name, module in model.named_modules():
        node, key = settings, "model"
        for part in filter(None, name.split(".")):
            if isinstance(node, dict) and part in node:
                node, key = node[part], f"{key}.{part}"
            elif isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
                node, key = node[int(part)], f"{key}[{part}]"
            else:
                break
        else:
            yield Owner(module, key)


def _dataset_owners(dataset: object, settings: object, key: str) -> Iterator[Owner]:
    """Yield a data set or a transform, and the ones inside it."""
    yield Owner(dataset, key)
    if not isinstance(settings, dict):
        return
    for name in ("dataset", "datasets", "pipeline", "transforms"):
        inner, parts = getattr(dataset, name, None), settings.get(name)
        inner = getattr(inner, "transforms", inner)  # mmcv's Compose
        if isinstance(parts, dict):
            yield from _dataset_owners(inner, parts, f"{key}.{name}")
        elif isinstance(parts, list | tuple) and isinstance(inner, list | tuple):
            for i, (item, part) in enumerate(zip(inner, parts, strict=False)):
                yield from _dataset_owners(item, part, f"{key}.{name}[{i}]")
