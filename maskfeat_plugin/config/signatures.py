"""Comparison of the parameters of a component with the settings in its config."""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(component: Callable) -> dict[str, inspect.Parameter]:
    """Return the parameters that a class or function takes by name.

    If a class passes ``**kwargs`` on, the parameters of its parent classes are included.

    Args:
        component (Callable): The class or function.

    Returns:
        dict[str, inspect.Parameter]: Without ``self``. Annotations are types if they can be resolved.
    """
    makers = (
        [vars(cls)["__init__"] for cls in inspect.getmro(component) if "__init__" in vars(cls)]
        if inspect.isclass(component)
        else [component]
    )
    found: dict[str, inspect.Parameter] = {}
    for maker in makers:
        try:
            signature, hints = inspect.signature(maker), _hints(maker)
        except (TypeError, ValueError):  # implemented in C
            break
        for name, parameter in list(signature.parameters.items())[_is_class(component) :]:
            if parameter.kind not in _VARIADIC:
                found.setdefault(name, parameter.replace(annotation=hints.get(name, parameter.empty)))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            break
    return found


def mismatches(settings: Mapping, component: Callable) -> Iterator[str]:
    """Find settings whose type differs from the declared type, and settings that are no finite number.

    Upstream sometimes declares a narrower type than it accepts. So use the result to explain a failure, not to raise
    one.

    Args:
        settings (Mapping): The component's config.
        component (Callable): The component's class or function.

    Yields:
        str: For example "patch_size='8' (int or tuple expected)".
    """
    known = parameters(component)
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name}={value} (a finite number expected)"
        elif name in known and not _fits(value, known[name]):
            yield f"{name}={short(value)} ({_words(known[name].annotation)} expected)"


def suggest(name: str, known: Sequence[str]) -> str:
    """Return a question with a name similar to a wrong name, or a full stop if there is none."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def written_for(name: str, given: Sequence[str]) -> str:
    """Return a question whether a given name is the missing name misspelt, or a full stop if none is similar."""
    close = difflib.get_close_matches(name, given, n=1)
    return f"; is {close[0]!r} misspelt?" if close else "."


def short(value: object, width: int = 60) -> str:
    """Shorten a value for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _hints(maker: Callable) -> dict[str, object]:
    try:
        return typing.get_type_hints(maker)
    except (NameError, TypeError, AttributeError):  # names that are imported only for type checkers
        return {}


def _is_class(component: Callable) -> bool:
    return inspect.isclass(component)


def _fits(value: object, parameter: inspect.Parameter) -> bool:
    if parameter.annotation is parameter.empty:
        return True
    if value is None and parameter.default is None:
        return True
    return _is_a(value, parameter.annotation)


def _is_a(value: object, hint: object) -> bool:
    """Check whether a config value fits a type; a dict fits any type that can be built from a config."""
    if hint is None:
        return value is None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_a(value, part) for part in inner)
    if origin is typing.Literal:
        return value in inner
    kind = origin or hint
    if not inspect.isclass(kind):
        return True
    if kind in (int, float):
        return isinstance(value, int | float if kind is float else int) and not isinstance(value, bool)
    if kind in (bool, str):
        return isinstance(value, kind)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if issubclass(kind, Sequence):  # a config in JSON or YAML has lists instead of tuples
        if not isinstance(value, list | tuple):
            return False
        # many authors write tuple[int] when they mean tuple[int, ...]
        if kind is tuple and len(inner) > 1 and Ellipsis not in inner:
            return len(value) == len(inner) and all(map(_is_a, value, inner))
        return all(_is_a(item, inner[0]) for item in value) if inner and kind is not tuple else True
    return isinstance(value, kind) or not (value is None or isinstance(value, int | float | str))


def _words(hint: object) -> str:
    """Describe a type in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in inner))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if hint in (None, type(None)):
        return "None"
    return getattr(origin or hint, "__name__", str(hint))
