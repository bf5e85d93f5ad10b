"""Search for the part of a config that caused an exception.

Components may raise any exception, often deep inside torch. The traceback passes through the component, or through the
function that builds the component from its part of the config. The innermost of these parts is named in the message.
"""

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import is_full_disk

from .key_names import with_keys
from .owners import Owner, last_part, module_owners
from .signatures import mismatches, parameters, short, suggest, written_for
from .walking import flatten, walk

# Functions in which mmengine builds a part of the config: function -> variable that holds the part
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
_MISSING_TYPE = 'must contain the key "type"'
_UNKNOWN_TYPE = " is not in the "
# Messages of torch about two sizes that must be equal; only in these does a number identify a setting
_SIZES = (
    re.compile(r"shapes cannot be multiplied \(\d+x(\d+) and (\d+)x\d+\)"),
    re.compile(r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\)"),
    re.compile(r"to have (\d+) channels, but got (\d+) channels"),
    re.compile(r"normalized_shape=\[(\d+)\].*input of size ?\[(?:\d+, )*(\d+)\]"),
)
# Exceptions raised by a value of the wrong type
_WRONG_TYPE = (TypeError, AttributeError)


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
    """Turn any exception of a block into a :class:`ConfigError` that names the part of the config that caused it.

    The original exception stays its cause; ``--traceback`` shows it.

    Args:
        cfg (Config): The config.
        what (str): The failed action, for the message after the key: "cannot be built".
        within (Sequence[str]): Keys of the sections that may have caused it. The first one is named if the exception
            shows no other. Defaults to ("",), the whole config.
        owners (Callable[[], Sequence[Owner]]): Returns the objects built so far, innermost last. Defaults to none.

    Raises:
        ConfigError: Instead of the exception.
        OSError: If the disk is full: the error stays as it is, because no setting is wrong.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        if is_full_disk(error):
            raise
        raise ConfigError(explain(error, cfg, what, within, owners())) from error


def explain(
    error: Exception, cfg: Config, what: str, within: Sequence[str] = ("",), owners: Sequence[Owner] = ()
) -> str:
    """Describe an exception on one line: the part of the config, the error, and the settings to check.

    Args: as in :func:`named_errors`.

    Returns:
        str: The line.
    """
    nodes = [node for node in walk(dict(cfg.items())) if _is_within(node[0], within)]
    read = parameters(Runner)  # variables of the file, such as train_pipeline, come after the parts that use them
    nodes.sort(key=lambda node: re.split(r"[.[]", node[0])[0] not in read)
    origin = _find(error, nodes, [*owners, *_owners_in(error, cfg)]) or _section(error, nodes, within)
    name = origin.settings.get("type")
    title = f"{origin.key} ({name}) of" if isinstance(name, str) and origin.key else f"{origin.key} of"
    title = f"{title} {cfg.filename}" if origin.key else f"the config {cfg.filename}"
    return f"{title} {what}: {_reason(error, origin, cfg)}"


def _owners_in(error: Exception, cfg: Config) -> list[Owner]:
    """Return the modules built so far, if the traceback passes through a model that is being built."""
    settings = cfg.get("model")
    for frame in _frames(error):
        model = frame.f_locals.get("self")
        if isinstance(model, torch.nn.Module) and "_modules" in vars(model):
            if isinstance(settings, dict) and last_part(settings.get("type")) == type(model).__name__:
                return list(module_owners(model, settings))
    return []


def _is_within(key: str, within: Sequence[str]) -> bool:
    return any(not section or key == section or key.startswith((f"{section}.", f"{section}[")) for section in within)


def _find(error: Exception, nodes: Sequence[tuple[str, dict]], owners: Sequence[Owner]) -> _Origin | None:
    """Find the innermost part of the config that the traceback passes through."""
    settings = dict(nodes)
    keys = {id(owner.object): owner.key for owner in owners}
    for frame in _frames(error):
        owner = frame.f_locals.get("self")
        key = keys.get(id(owner))
        if key in settings:
            kind = settings[key].get("type")  # a target's network is inside a FrozenNetwork, of another type
            component = None if isinstance(kind, str) and last_part(kind) != type(owner).__name__ else type(owner)
            return _Origin(key, settings[key], component, frame)
        key = _match_object(owner, frame, nodes)
        if key is not None:
            return _Origin(key, settings[key], type(owner), frame)
        part = frame.f_locals.get(_BUILDERS.get(frame.f_code.co_name, ""))
        key = _match(part, nodes) if isinstance(part, dict) else None
        if key is not None:
            component = frame.f_locals.get("obj_cls")
            return _Origin(key, settings[key], component if callable(component) else None, frame)
    return None


def _section(error: Exception, nodes: Sequence[tuple[str, dict]], within: Sequence[str]) -> _Origin:
    """Find the section with a setting that the exception quotes, else return all sections that may have caused it."""
    settings = dict(nodes)
    quoted = re.findall(r"'(\w+)'", str(error))
    found = [key for key in within if any(name in settings.get(key, {}) for name in quoted)]
    if len(found) != 1:
        found = [key for key in within if key in settings] or list(within[:1])
    if len(found) == 1:
        return _Origin(found[0], settings.get(found[0], {}), None)
    return _Origin(" or ".join(found), {}, None)


def _frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of a traceback from the innermost, beginning with the exception that caused it."""
    if error.__cause__ is not None:
        yield from _frames(error.__cause__)
    frames, step = [], error.__traceback__
    while step is not None:
        frames.append(step.tb_frame)
        step = step.tb_next
    yield from reversed(frames)


def _match(part: dict, nodes: Sequence[tuple[str, dict]]) -> str | None:
    """Find the key of the dict that a part was copied from; the builder may have added or removed entries."""
    best, found = 0.0, None
    for key, node in nodes:
        if not node or node.get("type") not in (part.get("type"), None):
            continue
        same = sum(name in part and (part[name] is value or part[name] == value) for name, value in node.items())
        score = same / len(node)
        if "type" not in node and "type" in part:  # mmengine adds a default type; then all given entries must be equal
            score = score - 0.01 if score == 1 else 0.0
        if score > best:
            best, found = score, key
    return found


def _match_object(component: object, frame: FrameType, nodes: Sequence[tuple[str, dict]]) -> str | None:
    """Find the key of the dict that an object was built from, by its class and attributes, for nested parts.

    While the object is being built, its arguments are compared. If several different parts fit, return None.
    """
    given = frame.f_locals if frame.f_code.co_name == "__init__" else {}
    best = -1
    found: list[tuple[str, dict]] = []
    for key, node in nodes:
        if last_part(node.get("type")) != type(component).__name__ or "type" not in node:
            continue
        kept = [(given.get(name, getattr(component, name, None)), node[name]) for name in node if name != "type"]
        same = [value == wanted for value, wanted in kept if type(value) is type(wanted)]
        if all(same) and sum(same) >= best:
            found = [*found, (key, node)] if sum(same) == best else [(key, node)]
            best = sum(same)
    return found[0][0] if found and all(node == found[0][1] for _, node in found) else None


def _reason(error: Exception, origin: _Origin, cfg: Config) -> str:
    """Describe the error, in terms of the config if possible."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error):
        own = ", ".join(f"{name}={short(value)}" for name, value in flatten(origin.settings))
        return f"there is not enough memory for it; reduce train_dataloader.batch_size or its sizes: {own}"
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    known = list(parameters(origin.component)) if origin.component else []
    if _MISSING_TYPE in text and "type" not in origin.settings:
        return f"it has no 'type'{written_for('type', list(map(str, origin.settings)))}"
    if _UNKNOWN_TYPE in text and "registry" in text:
        registry = origin.frame.f_locals.get("registry") if origin.frame else None
        name = text.partition(_UNKNOWN_TYPE)[0].strip("'\"` ")
        return describe_unknown_type(name, registry if isinstance(registry, Registry) else None, cfg)
    if match := re.search(r"unexpected keyword argument '(\w+)'", text):
        name = match[1]
        if name in origin.settings and known:
            return f"it has no argument {name!r}{suggest(name, known)} It takes {', '.join(known)}."
    if isinstance(error, KeyError) and re.fullmatch(r"[\w.]+", text):
        text = f"it looks for {text!r}, which does not exist"
    elif not text:
        text = f"{type(error).__name__}{_line(error)}"
    elif not isinstance(error, ValueError | AssertionError):
        text = f"{type(error).__name__}: {text}"
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        named = with_keys(text[:400].rstrip("."), error, origin.key, origin.component, dict(walk(dict(cfg.items()))))
    return named + _facts(error, text, origin, cfg)


def _line(error: Exception) -> str:
    """Return the line of code that raised an exception without a text."""
    steps = traceback.extract_tb(error.__traceback__)
    return f" in {steps[-1].filename}, line {steps[-1].lineno}: {steps[-1].line}" if steps else ""


def describe_unknown_type(name: str, registry: Registry | None, cfg: Config) -> str:
    """Describe a type that a registry does not have, and suggest a registered name that is similar.

    Args:
        name (str): The type.
        registry (Registry, optional): The registry in which the type was searched. Defaults to None: unknown.
        cfg (Config): The config.

    Returns:
        str: The description.
    """
    names: list[str] = []
    while registry is not None:
        names += registry.module_dict
        names += [f"{registry.scope}.{known}" for known in registry.module_dict]
        for child in registry.children.values():
            if child.scope == "maskfeat":
                child.import_from_location()
            names += [f"{child.scope}.{known}" for known in child.module_dict]
        registry = registry.parent
    return (
        f"type={name!r} is not registered{suggest(name, names)} (default_scope={cfg.get('default_scope')!r}; "
        "custom_imports names the modules that register others)"
    )


def _facts(error: Exception, text: str, origin: _Origin, cfg: Config) -> str:
    """Return settings that are related to the exception: settings of its part, and sizes that torch compares."""
    if isinstance(error, OSError) and ".pipeline" in origin.key:  # a transform opens the files that the data set lists
        key = origin.key.partition(".pipeline")[0]
        dataset = dict(walk(dict(cfg.items())))[key]
        places = [f"{name}={short(dataset.get(name))}" for name in ("data_root", "ann_file", "data_prefix")]
        return f"; {key} has {', '.join(places)}"
    if isinstance(error, _WRONG_TYPE) and origin.component:
        if wrong := list(mismatches(_met(error, origin), origin.component)):
            return f"; look at {', '.join(wrong)}"
    own = [f"{name}={short(value)}" for name, value in flatten(origin.settings)] + _missing_parts(origin)
    hint = f"; its settings are {', '.join(own[:16])}" if own and origin.key else ""
    if origin.key.startswith("param_scheduler") and "end=" in text and "end" not in origin.settings:
        length = {name: value for name, value in (cfg.get("train_cfg") or {}).items() if name.startswith("max_")}
        hint += f"; without end it runs to the end of train_cfg ({', '.join(f'{k}={v}' for k, v in length.items())})"
        if len(length) == 1 and origin.settings.get("begin"):
            hint += f". Set train_cfg.{next(iter(length))} above {origin.settings['begin']}, or begin and end earlier"
    return hint + _other_size(error, text, origin, cfg)


def _met(error: Exception, origin: _Origin) -> dict:
    """Return the settings of a part whose values are local variables of the code that raised the exception."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    values = list(frame.f_locals.values())
    return {
        name: setting
        for name, setting in origin.settings.items()
        if any(value is setting or (isinstance(value, str) and value == setting) for value in values)
    }


def _other_size(error: Exception, text: str, origin: _Origin, cfg: Config) -> str:
    """Find the setting of another part of the model whose size does not fit a size of this part."""
    found = next(filter(None, (pattern.search(text) for pattern in _SIZES)), None)
    if found is None or not isinstance(error, RuntimeError) or not origin.key.startswith("model."):
        return ""
    own = {value for _, value in flatten(origin.settings) if isinstance(value, int)}
    others = {int(size) for size in found.groups()} - own
    if len(others) != 1:
        return ""
    keys = [
        f"{key}.{name}={value}"
        for key, node in walk(cfg.model, "model")
        for name, value in node.items()
        if isinstance(value, int) and not isinstance(value, bool) and value in others
    ]
    return f"; {', '.join(keys)} does not fit" if len(keys) == 1 else ""


def _missing_parts(origin: _Origin) -> list[str]:
    """Return the components that a part could have but lacks: arguments that are declared as configs."""
    if origin.component is None:
        return []
    return [
        f"no {name}"
        for name, parameter in parameters(origin.component).items()
        if name not in origin.settings
        and name in ("backbone", "neck", "head", "cls_head", "roi_head", "rpn_head")
        and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
