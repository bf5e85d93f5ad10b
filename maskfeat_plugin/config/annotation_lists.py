"""Checks of annotation files before a data set reads them: some data sets accept fewer formats than users write."""

import codecs
import re
from io import StringIO
from pathlib import Path

from maskfeat_plugin.datasets.tar_members import is_url
from maskfeat_plugin.datasets.tar_shards import expand_shards
from maskfeat_plugin.datasets.video import decode_list

# Data sets of mmaction2 and of mmpretrain, and the lines that they accept
_SPLIT_AT_SPACES = ("VideoDataset", "RepeatAugDataset")
_OURS = (*_SPLIT_AT_SPACES, "AVADataset")
_NAME_AND_LABEL = ("ImageNet", "CustomDataset", "ImageNet21k")
_IMAGES = "maskfeat.ImageDataset"
_VIDEO_LINE = re.compile(r"[^\s]+( -?\d+)?")
_IMAGE_LINE = re.compile(r"\S.* -?\d+")


def check_manifest(path: Path, dataset: dict) -> None:
    """Check that a data set can read manifests. Data sets of mmaction2 and mmpretrain would read one as a list.

    Args:
        path (Path): The manifest.
        dataset (dict): Config of the data set.

    Raises:
        ValueError: If the data set cannot read manifests.
    """
    _check_ours(dataset, f"manifests such as {path}")


def check_shards(pattern: str, root: str, dataset: dict) -> None:
    """Check that a data set can read tar shards, and that shards on this machine exist.

    Args:
        pattern (str): The shards, see :func:`.expand_shards`.
        root (str): The root of the data set, or "".
        dataset (dict): Config of the data set.

    Raises:
        ValueError: If the data set cannot read tar shards, or if one does not exist.
    """
    _check_ours(dataset, "tar shards")
    shards = [name if is_url(name) else str(Path(root, name)) for name in expand_shards(pattern)]
    missing = [name for name in shards if not is_url(name) and not Path(name).is_file()]
    if missing:
        raise ValueError(f"{len(missing)} of {len(shards)} tar shards are not there: {missing[0]} is the first.")


def _check_ours(dataset: dict, what: str) -> None:
    kind = str(dataset.get("dataset_type", dataset.get("type")))
    ours = dict.fromkeys(_SPLIT_AT_SPACES, "maskfeat.VideoDataset") | dict.fromkeys(_NAME_AND_LABEL, _IMAGES)
    name = kind.rpartition(".")[2]
    if name in ours and kind not in (f"maskfeat.{name}", ours[name]):
        raise ValueError(f"{kind} does not read {what}. Set type='{ours[name]}'.")


def check_list(path: Path, dataset: dict) -> None:
    """Check that each line of an annotation file has a format that its data set accepts.

    Args:
        path (Path): The file.
        dataset (dict): Config of the data set.

    Raises:
        ValueError: With the number of the first wrong line.
    """
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"the file {path} lists no samples.")
    kind = dataset.get("dataset_type", dataset.get("type"))
    text = decode_list(content, str(path))
    if str(kind).startswith("maskfeat."):
        return
    own = str(kind).rpartition(".")[2]
    if content.startswith(codecs.BOM_UTF8):
        hint = f", or set type='maskfeat.{own}', which reads it" if own in _OURS else ""
        raise ValueError(f"{path}, line 1: it begins with a byte order mark; save the list as UTF-8 without one{hint}.")
    if own == "AVADataset" and '"' in text:
        number = text.count("\n", 0, text.index('"')) + 1
        raise ValueError(
            f"{path}, line {number}: it has quotes, which mmaction2 takes for a part of the name; set "
            "type='maskfeat.AVADataset', which reads quotes."
        )
    if kind in _SPLIT_AT_SPACES and dataset.get("delimiter", " ") == " " and not dataset.get("multi_class"):
        fits, form = _VIDEO_LINE, f"a name without spaces and a label; type='maskfeat.{kind}' accepts more formats"
    elif kind in _NAME_AND_LABEL and dataset.get("with_label", True):
        fits, form = _IMAGE_LINE, "a name, a space and a label, a whole number counted from 0"
    else:
        return
    for number, line in enumerate(StringIO(text, newline=None), start=1):
        if not fits.fullmatch(line.strip()):
            raise ValueError(f"{path}, line {number}: {line.strip()!r} is not {form}.")
