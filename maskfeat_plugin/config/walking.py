"""The parts of a config and their keys, such as ``train_dataloader.dataset.pipeline[2]``."""

import re
from collections.abc import Callable, Iterator

from maskfeat_plugin.errors import ConfigError


def every_part(
    node: object, key: str = "", into: Callable[[object], bool] = lambda part: True, around: tuple[int, ...] = ()
) -> Iterator[tuple[str, object]]:
    """Find every dict, list and value of a config. A dict or list comes before its content, which may still be changed.

    Args:
        node (object): A part of a config. It comes first.
        key (str): Key of the part. Defaults to "", the whole config.
        into (Callable[[object], bool]): Selects the parts to search, besides the first. Defaults to all.
        around (tuple[int, ...]): Identities of the parts that contain this part. Defaults to ().

    Yields:
        tuple[str, object]: The key and the part.

    Raises:
        ConfigError: If a dict or list contains itself.
    """
    if id(node) in around:
        raise ConfigError(f"{key} of the config holds itself. Put a copy.deepcopy of a part into its wrapper.")
    yield key, node
    if isinstance(node, dict):
        parts = [(f"{key}.{name}" if key else str(name), value) for name, value in node.items()]
    elif isinstance(node, list | tuple):
        parts = [(f"{key}[{i}]", value) for i, value in enumerate(node)]
    else:
        return
    for name, value in parts:
        if not isinstance(value, dict | list | tuple):
            yield name, value
        elif into(value):
            yield from every_part(value, name, into, (*around, id(node)))


def walk(node: object, key: str = "", into: Callable[[object], bool] = lambda part: True) -> Iterator[tuple[str, dict]]:
    """Find every dict of a config with its key; arguments as in :func:`every_part`."""
    return ((name, part) for name, part in every_part(node, key, into) if isinstance(part, dict))


def flatten(settings: dict) -> Iterator[tuple[str, object]]:
    """Find the settings of a component, also inside dicts, but not inside other components.

    Args:
        settings (dict): Config of the component.

    Yields:
        tuple[str, object]: The key relative to the component, and the value.
    """
    for key, node in walk(settings, into=lambda part: isinstance(part, dict) and "type" not in part):
        for name, value in node.items():
            if name != "type" and not _holds_more(value):
                yield f"{key}.{name}" if key else str(name), value


def _holds_more(value: object) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list | tuple) and any(isinstance(item, dict) and "type" in item for item in value)


def leaf_datasets(dataloader: dict | None, key: str) -> Iterator[tuple[str, dict]]:
    """Find the data sets of a dataloader, also inside wrappers.

    Args:
        dataloader (dict, optional): Config of the dataloader.
        key (str): Key of the dataloader.

    Yields:
        tuple[str, dict]: The key and the config of a data set that wraps no other data set.
    """
    key = f"{key}.dataset"
    for name, dataset in walk((dataloader or {}).get("dataset"), key):
        is_dataset = re.fullmatch(r"(\.dataset|\.datasets\[\d+\])*", name.removeprefix(key))
        if is_dataset and "dataset" not in dataset and not dataset.get("datasets"):
            yield name, dataset


def remove_weights(model: dict) -> None:
    """Remove every ``init_cfg`` from the config of a model, for uses that do not need its weights.

    Args:
        model (dict): The config, which is changed in place.
    """
    for _, node in walk(model):
        node.pop("init_cfg", None)


def replace_text(config: dict, change: Callable[[str], str]) -> None:
    """Change every text of a config.

    Args:
        config (dict): The config, which is changed in place.
        change (Callable[[str], str]): Function that returns the new text.
    """
    for _, part in every_part(config):
        if isinstance(part, dict | list):
            for name, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
                if isinstance(value, str):
                    part[name] = change(value)
