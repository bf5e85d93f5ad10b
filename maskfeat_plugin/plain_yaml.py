"""Reader of YAML that gives plain data alone: a file cannot have Python objects made or functions called."""

from typing import IO

import yaml
from mmengine.fileio.handlers import YamlHandler

# Parts of a document, each counted as often as its aliases repeat it
_MOST_PARTS = 1_000_000
_TUPLE = "tag:yaml.org,2002:python/tuple"


class PlainLoader(yaml.SafeLoader):
    """Loader of the tags of YAML itself, and of the tuples that ``mmengine.config.Config.dump`` writes.

    It is the loader written in Python: the one of libyaml ends the process at a document that is nested too deep.
    """

    def construct_tuple(self, node: yaml.Node) -> tuple:
        """Build a tuple of plain data."""
        return tuple(self.construct_sequence(node, deep=True))


PlainLoader.add_constructor(_TUPLE, PlainLoader.construct_tuple)


class PlainYamlHandler(YamlHandler):
    """YAML for ``mmengine.load``, which reads configs and annotations."""

    def load_from_fileobj(self, file: IO[str], **kwargs: object) -> object:
        """Read a document.

        Args:
            file (IO[str]): The file.
            **kwargs: Settings of ``yaml.load``. A loader given here is not used.

        Returns:
            object: Dicts, lists, tuples, strings, numbers, dates and None.

        Raises:
            yaml.YAMLError: If it is not YAML, or has a tag that stands for a Python object.
            ValueError: If it holds itself, or its aliases repeat too much.
        """
        content = yaml.load(file, Loader=PlainLoader)
        _count_parts(content, {})
        return content


def _count_parts(node: object, counts: dict[int, int | None]) -> int:
    """Count the parts of a document, each part once for every alias of it."""
    if isinstance(node, dict):
        children = list(node.values())
    elif isinstance(node, list | tuple):
        children = list(node)
    else:
        return 1
    if id(node) not in counts:
        counts[id(node)] = None
        counts[id(node)] = 1 + sum(_count_parts(child, counts) for child in children)
    size = counts[id(node)]
    if size is None:
        raise ValueError("an alias (*name) stands inside of what it names")
    if size > _MOST_PARTS:
        raise ValueError(f"its aliases (*name) repeat more than {_MOST_PARTS} parts")
    return size
