"""Random changes to a config like users' mistakes: wrong types and sizes, missing, misspelt or unknown keys."""

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

# Sections that training reads; a section is chosen as often as it is listed.
SECTIONS = (
    *["model"] * 8,
    *["train_dataloader"] * 6,
    *["optim_wrapper"] * 3,
    *["param_scheduler"] * 2,
    *["train_cfg"] * 2,
    *["default_hooks"] * 2,
    *["val_dataloader", "val_evaluator", "val_cfg"],
    *["log_processor", "visualizer", "randomness", "default_scope"],
)
WRONG = (None, "text", "", 0, -1, 3, 0.5, 1e30, float("nan"), float("inf"), 10**9, True, [], [1, 2], {}, dict(other=1))


@dataclass(frozen=True)
class Mutation:
    """One change: the place, the kind of change, and the old value."""

    path: tuple[str | int, ...]
    kind: str
    old: object
    new: object = None

    @property
    def key(self) -> str:
        """Return the place as messages write it: ``model.backbone`` or ``pipeline[2]``."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")

    def __str__(self) -> str:
        return f"{self.kind} {self.key}: {self.old!r} -> {self.new!r}"


def mutate(config: dict, seed: int) -> tuple[dict, Mutation]:
    """Return a changed copy of a config, which depends only on the seed, and the change."""
    rng = random.Random(seed)
    config = copy.deepcopy(config)
    section = rng.choice([name for name in SECTIONS if name in config])
    path = rng.choice(list(_paths(config[section], (section,))))
    owner = config
    for part in path[:-1]:
        owner = owner[part]
    name, old = path[-1], owner[path[-1]]
    kind = rng.choice(("value", "value", "value", "remove", "misspell", "add"))
    if kind == "remove":
        del owner[name]
        return config, Mutation(path, kind, old)
    if kind == "misspell" and isinstance(name, str):
        wrong = _misspell(name, rng)
        owner[wrong] = owner.pop(name)
        return config, Mutation((*path[:-1], wrong), kind, name, wrong)
    if kind == "add" and isinstance(old, dict):
        old["no_such_key"] = 1
        return config, Mutation((*path, "no_such_key"), kind, None, 1)
    owner[name] = _another(old, rng)
    return config, Mutation(path, "value", old, owner[name])


def _paths(node: object, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield every place below a node of the config, and the node itself."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    for name, value in items:
        # registry names are read in the same way for all components
        if not isinstance(node, tuple):
            yield from _paths(value, (*path, name))


def _misspell(name: str, rng: random.Random) -> str:
    if len(name) < 3 or rng.random() < 0.3:
        return f"{name}s"
    place = rng.randrange(len(name) - 1)
    return name[:place] + name[place + 1 :]


def _another(old: object, rng: random.Random) -> object:
    """Return another value: a value of another type, or a number of another size."""
    values = [value for value in WRONG if value != old or type(value) is not type(old)]
    if isinstance(old, int | float) and not isinstance(old, bool):
        values += [old + 1, -old, old * 2, old // 2, str(old), [old]] * 2
    elif isinstance(old, str):
        values += [old + "x", old[:-1], old.upper(), [old]] * 2
    elif isinstance(old, list | tuple):
        values += [[*old, *old], list(old)[:-1], list(old)[::-1], *old] * 2
    return copy.deepcopy(rng.choice(values))


def names(mutation: Mutation, message: str) -> bool:
    """Check whether a message names the change: its key, or its name and the part of the config around it."""
    path = list(mutation.path)
    if mutation.kind in ("remove", "misspell") and len(path) == 1:
        return str(path[0]) in message or str(mutation.old) in message
    for end in range(len(path), 0, -1):
        key = Mutation(tuple(path[:end]), "", None).key
        if not re.search(rf"(?<![\w.]){re.escape(key)}(?!\w|\[|\.\w)", message):
            continue
        rest = [part for part in path[end:] if isinstance(part, str)]
        if mutation.kind == "remove" and end == len(path) - 1:  # the part that lacks the key
            return True
        words = rest[-1:]
        if mutation.kind == "misspell":
            words.append(mutation.old)
        elif mutation.kind == "remove":  # the rest of the part that lacks the key
            words += [part for part in path[-2:-1] if isinstance(part, str)]
        return not rest or rest[-1] == "type" or any(re.search(rf"\b{re.escape(word)}\b", message) for word in words)
    return False
