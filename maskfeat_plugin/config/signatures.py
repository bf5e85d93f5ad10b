"""What a component takes, compared with what its config gives it."""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters(component: Callable) -> dict[str, inspect.Parameter]:
    """Parameters that a class or function takes by name.

    A class that passes ``**kwargs`` on takes those of the classes it inherits from too.

    Args:
        component (Callable): The class or function.

    Returns:
        dict[str, inspect.Parameter]: Without ``self``; their annotations are types as far as these can be found.
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
        except (TypeError, ValueError):  # written in C
            break
        for name, parameter in list(signature.parameters.items())[_is_class(component) :]:
            if parameter.kind not in _VARIADIC:
                found.setdefault(name, parameter.replace(annotation=hints.get(name, parameter.empty)))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            break
    return found


def mismatches(settings: Mapping, component: Callable) -> Iterator[str]:
    """Settings that are not of the type that a component declares, or no finite number.

    What upstream declares is at times narrower than what it takes: this explains a failure, it does not make one.

    Args:
        settings (Mapping): The component's config.
        component (Callable): Its class or function.

    Yields:
        str: Such as "patch_size='8' (int or tuple expected)".
    """
    known = parameters(component)
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name}={value} (a finite number expected)"
        elif name in known and not _fits(value, known[name]):
            yield f"{name}={short(value)} ({_words(known[name].annotation)} expected)"


def suggest(name: str, known: Sequence[str]) -> str:
    """A question after a name that is close to a wrong one, or a full stop."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def written_for(name: str, given: Sequence[str]) -> str:
    """Which of the given names may be a missing one misspelt, or a full stop."""
    close = difflib.get_close_matches(name, given, n=1)
    return f"; is {close[0]!r} misspelt?" if close else "."


def short(value: object, width: int = 60) -> str:
    """A value for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _hints(maker: Callable) -> dict[str, object]:
    try:
        return typing.get_type_hints(maker)
    except (NameError, TypeError, AttributeError):  # names that only a type checker sees
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
    """Whether a config value may stand for a type; a dict may for anything that can be built."""
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
    if issubclass(kind, Sequence):  # a config written as JSON or YAML has lists for tuples
        if not isinstance(value, list | tuple):
            return False
        # tuple[int] is often written for tuple[int, ...]
        if kind is tuple and len(inner) > 1 and Ellipsis not in inner:
            return len(value) == len(inner) and all(map(_is_a, value, inner))
        return all(_is_a(item, inner[0]) for item in value) if inner and kind is not tuple else True
    return isinstance(value, kind) or not (value is None or isinstance(value, int | float | str))


def _words(hint: object) -> str:
    """A type as a person would name it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in inner))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if hint in (None, type(None)):
        return "None"
    return getattr(origin or hint, "__name__", str(hint))
