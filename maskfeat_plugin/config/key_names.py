"""Translation of the argument names in an error to keys of the config.

A component says ``nbins must be positive``, because it does not know its place in the config. The user wrote
``model.target_generator.targets.hog.nbins``.
"""

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping

from maskfeat_plugin.registry import MODELS

from .signatures import parameters

_OWN = __name__.partition(".")[0]
# An argument, or a key below it: targets.hog, pipeline[2]. Not inside a file path, quotes or a call.
_NAME = re.compile(r"(?<![\w./\\'\"=(\[-])[a-z_]\w*(?:\.\w+|\[\d+\])*")


def with_keys(text: str, error: Exception, key: str, component: Callable | None, nodes: Mapping[str, dict]) -> str:
    """Replace the argument names in the text of an error by keys of the config.

    A name counts as an argument if it begins the text, stands before ``=`` or after ``set``, or has a key below it. If
    a package other than this one or the component's raised the error, its names mean something else and stay.

    Args:
        text (str): The text.
        error (Exception): The exception.
        key (str): Key of the part of the config that the exception comes from.
        component (Callable, optional): Class or function of this part.
        nodes (Mapping[str, dict]): The parts of the config by their keys.

    Returns:
        str: The text, such as "model.target_generator.nbins must be positive".
    """
    if not _is_of(error, component):
        return text

    def with_key(found: re.Match) -> str:
        before, after, name = text[: found.start()], text[found.end() :], found[0]
        begins = not before and re.match(r"[ :=]", after)
        if not (begins or after.startswith("=") or before.lower().endswith("set ") or "." in name):
            return name
        if before.count("(") > before.count(")"):  # an example of a config, or another error
            return name
        owner = _owner(re.split(r"[.[]", name)[0], key, component, nodes)
        return name if owner is None else f"{owner}.{name}"

    return _NAME.sub(with_key, text)


def _is_of(error: Exception, component: Callable | None) -> bool:
    """Check whether this package or the component's package raised an exception."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    packages = {_OWN, getattr(component, "__module__", _OWN).partition(".")[0]}
    return frame.f_globals.get("__name__", "").partition(".")[0] in packages


def _owner(name: str, key: str, component: Callable | None, nodes: Mapping[str, dict]) -> str | None:
    """Find the part of the config with an argument: the nearest one around a key, else the only one in the model."""
    if name == "type":
        return None
    for around in _around(key):
        node = nodes.get(around, {})
        own = component if around == key else _class_of(node, around)
        if name in node or (own is not None and name in parameters(own)):
            return around
    others = [other for other, node in nodes.items() if other.startswith("model.") and name in node]
    of_target = [other for other in others if other.rpartition(".")[2] == key.rpartition(".")[2]]
    found = of_target if len(of_target) == 1 else others  # with several targets, the part of the same target
    return found[0] if len(found) == 1 else None


def _around(key: str) -> Iterator[str]:
    """Yield the key of a part and the keys of all parts that contain it, except the whole config."""
    while key:
        yield key
        key = re.sub(r"(\.|^)[^.[]*$|\[\d+\]$", "", key)


def _class_of(node: dict, key: str) -> type | None:
    """Find the class of a part of the model; return None for other parts."""
    kind = node.get("type")
    if isinstance(kind, str) and key.startswith("model"):
        with MODELS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind if inspect.isclass(kind) else None
