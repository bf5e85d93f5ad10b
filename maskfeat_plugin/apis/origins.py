"""Which part of a config an exception comes from.

Components are anybody's code and fail in any way, often deep inside torch. The traceback passes through the component,
or through the place where it is built from its part of the config: the innermost such part is the one to name.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from maskfeat_plugin.errors import ConfigError

from .signatures import mismatches, parameters, short, suggest, written_for

# Where mmengine makes something of a part of the config: function -> variable that holds the part
_BUILDERS = {
    "build_from_cfg": "cfg",
    "build_scheduler_from_cfg": "cfg",
    "build_dataloader": "dataloader",
    "build_optim_wrapper": "optim_wrapper",
    "build_log_processor": "log_processor",
    "build_visualizer": "visualizer",
    "build_evaluator": "evaluator",
    "build_train_loop": "loop",
    "build_val_loop": "loop",
    "build_test_loop": "loop",
}
# What a part has to fit besides the model's other parts: of the section, the setting or the part to look at
_RELATED = {
    "param_scheduler": "train_cfg",
    "optim_wrapper": "optim_wrapper.optimizer",
    "optim_wrapper.optimizer": "optim_wrapper",
    "model.head": "model.target_generator",
    "model.data_preprocessor": "train_dataloader.dataset.pipeline",
}
_MISSING_TYPE = 'must contain the key "type"'
_UNKNOWN_TYPE = " is not in the "


@dataclass(frozen=True)
class Owner:
    """An object that was built, and the key of its part of the config."""

    object: object
    key: str


@dataclass(frozen=True)
class _Origin:
    key: str
    settings: dict
    component: Callable | None
    frame: FrameType | None = None


@contextmanager
def named_errors(
    cfg: Config, what: str, within: Sequence[str] = ("",), owners: Callable[[], Sequence[Owner]] = tuple
) -> Iterator[None]:
    """Turn any exception of a block into a :class:`ConfigError` that names the part of the config it comes from.

    The exception stays its cause: ``--traceback`` shows it.

    Args:
        cfg (Config): The config.
        what (str): What does not work, after the key: "cannot be built".
        within (Sequence[str]): Keys of the sections that it may come from. The first is named where the exception does
            not tell. Defaults to ("",), the whole config.
        owners (Callable[[], Sequence[Owner]]): Gives the objects built so far, innermost last. Defaults to none.

    Raises:
        ConfigError: In place of the exception.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(explain(error, cfg, what, within, owners())) from error


def explain(
    error: Exception, cfg: Config, what: str, within: Sequence[str] = ("",), owners: Sequence[Owner] = ()
) -> str:
    """One line on an exception: the part of the config, what is wrong, and the settings to look at.

    Args: as in :func:`named_errors`.

    Returns:
        str: The line.
    """
    nodes = [node for node in walk(dict(cfg.items())) if _is_within(node[0], within)]
    origin = _find(error, nodes, owners) or _section(error, nodes, within)
    name = origin.settings.get("type")
    title = " ".join(filter(None, (origin.key, f"({name})" if isinstance(name, str) else "", f"of {cfg.filename}")))
    return f"{title} {what}: {_reason(error, origin, cfg, owners)}"


def owners_of(runner: Runner) -> list[Owner]:
    """The objects that a runner has built so far, each with the key of its part of the config.

    Args:
        runner (Runner): May be half built: loops, optimizer and schedulers are built when they are first needed.

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
        owners += [Owner(hook, key) for key, node in _hook_nodes(cfg) if _last(node.get("type")) == type(hook).__name__]
    model = get("model")
    if isinstance(model, torch.nn.Module):
        owners += _module_owners(model.module if is_model_wrapper(model) else model, cfg.get("model"))
    return [owner for owner in owners if owner.object is not None]


def _hook_nodes(cfg: Config) -> Iterator[tuple[str, dict]]:
    for name, node in (cfg.get("default_hooks") or {}).items():
        if isinstance(node, dict):
            yield f"default_hooks.{name}", node
    for i, node in enumerate(cfg.get("custom_hooks") or ()):
        yield f"custom_hooks[{i}]", node


def _last(kind: object) -> str:
    return kind.rpartition(".")[2] if isinstance(kind, str) else getattr(kind, "__name__", "")


def _module_owners(model: torch.nn.Module, settings: dict) -> Iterator[Owner]:
    """Modules whose names are keys of the config, as all are that are built from it."""
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
    """A data set or a transform, and those inside it."""
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


def walk(node: object, key: str = "") -> Iterator[tuple[str, dict]]:
    """Every dict below a node of a config, with its key: ``train_dataloader.dataset.pipeline[2]``."""
    if isinstance(node, dict):
        yield key, node
        for name, value in node.items():
            yield from walk(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from walk(value, f"{key}[{i}]")


def flatten(settings: dict, key: str = "") -> Iterator[tuple[str, object]]:
    """The settings of a component with their keys, those in dicts too, but not those of components inside it."""
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            if "type" not in value:
                yield from flatten(value, f"{key}{name}.")
        elif name != "type" and not _holds_components(value):
            yield f"{key}{name}", value


def _holds_components(value: object) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, dict) and "type" in item for item in value)


def _is_within(key: str, within: Sequence[str]) -> bool:
    return any(not section or key == section or key.startswith((f"{section}.", f"{section}[")) for section in within)


def _find(error: Exception, nodes: Sequence[tuple[str, dict]], owners: Sequence[Owner]) -> _Origin | None:
    """The innermost part of the config that the traceback passes through."""
    settings = dict(nodes)
    keys = {id(owner.object): owner.key for owner in owners}
    for frame in _frames(error):
        owner = frame.f_locals.get("self")
        key = keys.get(id(owner))
        if key in settings:
            return _Origin(key, settings[key], type(owner), frame)
        key = _match_object(owner, nodes)
        if key is not None:
            return _Origin(key, settings[key], type(owner), frame)
        part = frame.f_locals.get(_BUILDERS.get(frame.f_code.co_name, ""))
        key = _match(part, nodes) if isinstance(part, dict) else None
        if key is not None:
            component = frame.f_locals.get("obj_cls")
            return _Origin(key, settings[key], component if callable(component) else None, frame)
        key = _match_setting(frame, nodes) if owners else None
        if key is not None:
            return _Origin(key, settings[key], None, frame)
    return None


def _section(error: Exception, nodes: Sequence[tuple[str, dict]], within: Sequence[str]) -> _Origin:
    """The section with a setting that the exception speaks of, else the first of them."""
    settings = dict(nodes)
    quoted = re.findall(r"'(\w+)'", str(error))
    found = [key for key in within if any(name in settings.get(key, {}) for name in quoted)]
    key = [*found, within[0]][0]
    return _Origin(key, settings.get(key, {}), None)


def _frames(error: Exception) -> Iterator[FrameType]:
    """Frames of a traceback from the innermost, first those of the exception that caused it."""
    if error.__cause__ is not None:
        yield from _frames(error.__cause__)
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    yield from reversed(frames)


def _match(part: dict, nodes: Sequence[tuple[str, dict]]) -> str | None:
    """Key of the config's dict that a part is a copy of; what builds it may have added to it or taken from it."""
    best, found = 0.0, None
    for key, node in nodes:
        if not node or node.get("type") not in (part.get("type"), None):
            continue
        same = sum(name in part and (part[name] is value or part[name] == value) for name, value in node.items())
        score = same / len(node)
        if "type" not in node and "type" in part:  # a type that is understood, where all that is given is in the part
            score = score - 0.01 if score == 1 else 0.0
        if score > best:
            best, found = score, key
    return found


def _match_setting(frame: FrameType, nodes: Sequence[tuple[str, dict]]) -> str | None:
    """Key of a part of the config that a running component hands to a function as it is: ``nms=dict(...)``."""
    if frame.f_code.co_name == "__init__":  # has the parts of its parts at hand, wherever it fails
        return None
    parts = [value for value in frame.f_locals.values() if isinstance(value, dict) and "type" in value]
    return next((key for key, node in nodes if any(node == part for part in parts)), None)


def _match_object(component: object, nodes: Sequence[tuple[str, dict]]) -> str | None:
    """Key of the config that an object was built from, as far as its class and attributes tell: of parts of parts."""
    for key, node in nodes:
        if _last(node.get("type")) != type(component).__name__ or "type" not in node:
            continue
        kept = [(getattr(component, name, value), value) for name, value in node.items() if name != "type"]
        if all(found == value for found, value in kept if type(found) is type(value)):
            return key
    return None


def _reason(error: Exception, origin: _Origin, cfg: Config, owners: Sequence[Owner]) -> str:
    """What is wrong, in the config's terms where these can be told."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        own = ", ".join(f"{name}={short(value)}" for name, value in flatten(origin.settings))
        return f"there is not enough memory for it; make train_dataloader.batch_size smaller, or its sizes: {own}"
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    known = list(parameters(origin.component)) if origin.component else []
    if _MISSING_TYPE in text and "type" not in origin.settings:
        return f"it has no 'type'{written_for('type', list(map(str, origin.settings)))}"
    if _UNKNOWN_TYPE in text and "registry" in text:
        return _unknown_type(text, origin, cfg)
    if match := re.search(r"unexpected keyword argument '(\w+)'", text):
        name = match[1]
        if name in origin.settings and known:
            return f"it has no argument {name!r}{suggest(name, known)} It takes {', '.join(known)}."
    if isinstance(error, KeyError) and re.fullmatch(r"[\w.]+", text):
        text = f"it looks for {text!r}, which is not there"
    elif not text:
        text = type(error).__name__
    elif not isinstance(error, ValueError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text[:400].rstrip(".") + _look_at(error, text, origin, cfg, owners)


def _unknown_type(text: str, origin: _Origin, cfg: Config) -> str:
    """A type that no registry has, with one that it could be."""
    name = text.partition(_UNKNOWN_TYPE)[0].strip("'\"` ")
    registry = origin.frame.f_locals.get("registry") if origin.frame else None
    names: list[str] = []
    while registry is not None and hasattr(registry, "module_dict"):
        names += registry.module_dict
        names += [f"{registry.scope}.{known}" for known in registry.module_dict]
        for child in registry.children.values():
            names += [f"{child.scope}.{known}" for known in child.module_dict]
        registry = registry.parent
    return (
        f"type={name!r} is not registered{suggest(name, names)} (default_scope={cfg.get('default_scope')!r}; "
        "custom_imports names the modules that register others)"
    )


def _look_at(error: Exception, text: str, origin: _Origin, cfg: Config, owners: Sequence[Owner]) -> str:
    """The settings that the exception may come from: of a wrong type, else the part's own and those of its numbers."""
    wrong = list(mismatches(origin.settings, origin.component)) if origin.component else []
    if not wrong and origin.key.startswith("model."):
        settings = dict(walk(cfg.get("model"), "model"))
        wrong = [
            f"{owner.key}.{setting}"
            for owner in owners
            if owner.key in settings
            for setting in mismatches(settings[owner.key], type(owner.object))
        ]
    hint = f"; look at {', '.join(wrong)}" if wrong else ""
    if wrong and not isinstance(error, RuntimeError):
        return hint
    if isinstance(error, OSError) and ".pipeline" in origin.key:  # a transform opens what the data set lists
        key = origin.key.partition(".pipeline")[0]
        dataset = dict(walk(dict(cfg.items())))[key]
        places = [f"{name}={short(dataset.get(name))}" for name in ("data_root", "ann_file", "data_prefix")]
        return f"; {key} has {', '.join(places)}"
    own = [f"{name}={short(value)}" for name, value in flatten(origin.settings)]
    if inner := _missing_parts(origin):
        own += inner
    if own and origin.key:
        hint += f"; its settings are {', '.join(own[:16])}"
    for section, related in _RELATED.items():
        if _is_within(origin.key, [section]) and origin.key != related:
            hint += f"; see also {related}{_settings_of(cfg, related)}"
    if origin.key.startswith("model."):
        others = [name for name, value in cfg.model.items() if isinstance(value, dict | list | tuple)]
        others = [f"model.{name}" for name in others if not _is_within(origin.key, [f"model.{name}"])]
        hint += f"; it has to fit {', '.join(others)}" if others else ""
    numbers = {int(number) for number in re.findall(r"(?<![\d.])\d+(?![\d.])", text)} - {0, 1, 2, 3}
    if isinstance(error, RuntimeError | AssertionError | ValueError) and numbers:
        others = [
            f"{key}.{name}={value}"
            for key, node in walk(cfg.get("model"), "model")
            for name, value in node.items()
            if key != origin.key and isinstance(value, int) and not isinstance(value, bool) and value in numbers
        ]
        if others:
            hint += f"; the same numbers are in {', '.join(dict.fromkeys(others[:8]))}"
    return hint


def _settings_of(cfg: Config, section: str) -> str:
    node = cfg
    for part in section.split("."):
        node = node.get(part) or {}
        if not isinstance(node, dict):
            return ""
    own = [f"{name}={short(value)}" for name, value in flatten(node)]
    return f" ({', '.join(own)})" if own else ""


def _missing_parts(origin: _Origin) -> list[str]:
    """Components that a part could have and does not: arguments that are declared as configs."""
    if origin.component is None:
        return []
    return [
        f"no {name}"
        for name, parameter in parameters(origin.component).items()
        if name not in origin.settings
        and name in ("backbone", "neck", "head", "cls_head", "roi_head", "rpn_head")
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
