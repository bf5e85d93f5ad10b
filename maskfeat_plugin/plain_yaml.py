"""YAML reader that returns plain data only: a file cannot build Python objects or call functions."""

from typing import IO

import yaml
from mmengine.fileio.handlers import YamlHandler

# Number of parts of a document. A part counts once for each alias that repeats it.
_MOST_PARTS = 1_000_000
_TUPLE = "tag:yaml.org,2002:python/tuple"


class PlainLoader(yaml.SafeLoader):
    """Loader of YAML's own tags, and of the tuples that ``mmengine.config.Config.dump`` writes.

    It is based on the loader written in Python. The loader of libyaml crashes at a document that is nested too deep.
    """

    def construct_tuple(self, node: yaml.Node) -> tuple:
        """Build a tuple of plain data."""
        return tuple(self.construct_sequence(node, deep=True))


PlainLoader.add_constructor(_TUPLE, PlainLoader.construct_tuple)


class PlainYamlHandler(YamlHandler):
    """YAML format for ``mmengine.load``, which reads configs and annotations."""

    def load_from_fileobj(self, file: IO[str], **kwargs: object) -> object:
        """Read a document.

        Args:
            file (IO[str]): The file.
            **kwargs: Settings of ``yaml.load``. A loader given here is not used.

        Returns:
            object: Dicts, lists, tuples, strings, numbers, dates and None.

        Raises:
            yaml.YAMLError: If the file is not YAML, or has a tag for a Python object.
            ValueError: If the document contains itself, or its aliases repeat too many parts.
        """
        content = yaml.load(file, Loader=PlainLoader)
        _count_parts(content, {})
        return content


def _count_parts(node: object, counts: dict[int, int | None]) -> int:
    """Count the parts of a document. A part counts once for each alias that repeats it."""
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
        raise ValueError("an alias (*name) stands inside the part that it repeats")
    if size > _MOST_PARTS:
        raise ValueError(f"its aliases (*name) repeat more than {_MOST_PARTS} parts")
    return size
