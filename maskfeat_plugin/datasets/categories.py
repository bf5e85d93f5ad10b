"""Names of the classes of data on disk: class folders of images, and annotations in COCO's form."""

import json
import mmap
import re
from pathlib import Path

_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')


def class_folders(folder: str | Path) -> tuple[str, ...]:
    """List the class folders in the order of mmpretrain's class numbers: class 0 is the first name.

    Args:
        folder (str | Path): The folder with one folder for each class.

    Returns:
        tuple[str, ...]: The names of the class folders, sorted.
    """
    return tuple(sorted(path.name for path in Path(folder).iterdir() if path.is_dir()))


def read_categories(path: str | Path) -> list[str]:
    """Read the names of the categories from a file in COCO's form, without parsing its annotations.

    Args:
        path (str | Path): The file, JSON in UTF-8.

    Returns:
        list[str]: The names in the order of the file, which is the order of mmdet's labels.

    Raises:
        ValueError: If the file has no list of categories.
    """
    decoder = json.JSONDecoder()
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            raise ValueError(f"{path} is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for match in _CATEGORIES.finditer(content):
                end = match.end()
                for size in (1 << 20, len(content)):  # the list is short, the file may have gigabytes
                    try:
                        found, _ = decoder.raw_decode(content[end : end + size].decode("utf-8", "replace"))
                    except Exception:  # the part ends before the list does, or is not JSON
                        continue
                    if all(isinstance(item, dict) and {"id", "name"} <= item.keys() for item in found):
                        return [str(item["name"]) for item in found]
                    break
    raise ValueError(f'{path} has no "categories", the list of the names and ids of its classes.')
