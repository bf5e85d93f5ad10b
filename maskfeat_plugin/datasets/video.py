"""Data set of videos: from a list, tar shards, a manifest or a folder."""

import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from mmaction.datasets import VideoDataset as _VideoDataset
from mmengine.dataset import BaseDataset
from mmengine.fileio import get

from maskfeat_plugin.registry import DATASETS

from .folders import VIDEO_ENDINGS, find_files
from .frame_rates import log_frame_rates
from .manifest import VIDEO, is_manifest, read_files
from .tar_shards import CountsShards, as_pattern, is_shards, read_samples


class ListedFile(NamedTuple):
    """Line of a list and its number, counted from 1."""

    name: str
    labels: tuple[int, ...]
    line: int


@DATASETS.register_module()
class VideoDataset(CountsShards, _VideoDataset):
    """``mmaction.VideoDataset`` that also reads lists in the forms that editors and other systems write.

    A line is the name of a file and its label, or with ``multi_class=True`` its labels. Windows line ends, a byte order
    mark, blank lines, and tabs and spaces around name and label make no difference. Names may contain spaces.
    mmaction2's class ends a name at its first space, and takes a blank line for a video. With ``multi_class=True`` a
    video may have no label at all, as in mmaction2: it belongs to none of the classes.

    Without a list, the data set has all videos below ``data_prefix["video"]``, including sub-folders, sorted by name
    and without labels. Pre-training needs no labels.

    With a manifest of ``maskfeat index`` instead of the list, the data set has all its readable videos, without labels
    and with their ``duration`` in seconds. The videos are below ``data_prefix["video"]`` if it is set, otherwise in the
    folder that the manifest names.

    With tar shards, ``ann_file="shard-{000000..000127}.tar"``, the data set has all their videos, in their order. The
    shards are on a disk or in object storage. The label of a video is ``label`` of its json member or its cls member.
    Other values of the json member become keys of the sample.

    Args:
        ann_file (str | Sequence[str]): The list; a manifest, whose name ends in ``.parquet``; or the tar shards, as a
            pattern with braces or a list of names. Defaults to "", none.
        *args: Further arguments of ``mmaction.VideoDataset``.
        **kwargs: Further arguments of ``mmaction.VideoDataset``.

    Raises:
        ValueError: With the number of the first line that does not have the form of a list, or whose label is not a
            class. Without ``multi_class=True``, lines with and lines without labels must not be mixed. Without a list:
            if the folder is not set or has no videos.
    """

    def __init__(self, ann_file: str | Sequence[str] = "", *args: object, **kwargs: object) -> None:
        super().__init__(as_pattern(ann_file), *args, **kwargs)

    def full_init(self) -> None:
        """Read the list, and log the frame rates of some training videos."""
        if self._fully_initialized:
            return
        super().full_init()
        count = BaseDataset.__len__(self)  # number of files, which can differ from the number of samples
        if not self.test_mode and count:
            log_frame_rates(lambda index: self.get_data_info(index)["filename"], count, self.pipeline.transforms)

    def load_data_list(self) -> list[dict]:
        """Read the list, the manifest or the indexes of the shards, or search the folder.

        Returns:
            list[dict]: ``filename`` and ``label`` of each video; the label is -1 without labels. With a manifest, also
            ``duration``.
        """
        if is_shards(self.ann_file):
            return read_samples(self.ann_file, image=False, with_label=False)
        if is_manifest(self.ann_file):
            paths, durations = read_files(self.ann_file, VIDEO, self.data_prefix.get("video"), "duration")
            return [
                dict(filename=path, label=-1, duration=duration)
                for path, duration in zip(paths, durations, strict=True)
            ]
        if not self.ann_file:
            return [dict(filename=str(path), label=-1) for path in find_videos(self.data_prefix.get("video") or "")]
        if self.multi_class and self.num_classes is None:
            raise ValueError("VideoDataset: multi_class=True needs num_classes.")
        samples = []
        for file in read_list(self.ann_file, self.delimiter, several=self.multi_class):
            name = file.name
            if self.data_prefix["video"] is not None:
                name = os.path.join(self.data_prefix["video"], name)
            if self.multi_class and any(not 0 <= label < self.num_classes for label in file.labels):
                raise ValueError(
                    f"{self.ann_file}, line {file.line}: the labels of {file.name!r} are {file.labels}, but "
                    f"num_classes={self.num_classes} of the data set has 0 to {self.num_classes - 1}."
                )
            label = list(file.labels) if self.multi_class else (file.labels or (-1,))[0]
            samples.append(dict(filename=name, label=label))
        return samples


def find_videos(folder: str) -> list[Path]:
    """Find all videos below a folder by the endings of their names. Links to folders are not followed.

    Args:
        folder (str): The folder.

    Returns:
        list[Path]: The videos, sorted by name.

    Raises:
        ValueError: If the folder is "" or has no videos.
    """
    if not folder:
        raise ValueError("VideoDataset: without ann_file, data_prefix.video has to be the folder of the videos.")
    found = find_files(folder, VIDEO_ENDINGS)
    if not found.files:
        skipped = found.describe_skipped()
        raise ValueError(
            f"VideoDataset: there is no video ({', '.join(VIDEO_ENDINGS)}) below {folder!r}"
            + (f"; left out: {skipped}." if skipped else ".")
        )
    return found.files


def read_list(path: str, delimiter: str = " ", several: bool = False) -> list[ListedFile]:
    """Read a list of files with their labels.

    Args:
        path (str): The list, UTF-8.
        delimiter (str): The text between a name and its label. A space stands for any white space. Defaults to " ".
        several (bool): Whether all whole numbers at the end of a line are labels; a line may also have none. Defaults
            to False.

    Returns:
        list[ListedFile]: One for each line that is not blank.

    Raises:
        ValueError: If the list is not text in UTF-8, or with the number of the first wrong line.
    """
    separator = None if delimiter.isspace() else delimiter
    files: list[ListedFile] = []
    first = 0
    for number, line in enumerate(StringIO(decode_list(get(path), path), newline=None), start=1):
        line = line.strip()
        if not line:
            continue
        name, labels = _split(line, separator, several)
        if not name or (separator is None and not labels and len(line.split()) > 1):
            raise ValueError(
                f"{path}, line {number}: {line!r} is no name of a file and its label, a whole number counted from 0."
            )
        if files and not several and bool(labels) != bool(files[0].labels):
            without = (number, first) if files[0].labels else (first, number)
            raise ValueError(f"{path}: line {without[0]} has no label and line {without[1]} has one.")
        first = first or number
        files.append(ListedFile(name, labels, number))
    return files


def decode_list(content: bytes, path: str) -> str:
    """Decode a list, without its byte order mark.

    Args:
        content (bytes): The content of the file.
        path (str): The path of the file, for the message.

    Returns:
        str: The text.

    Raises:
        ValueError: With the line that is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: this is not UTF-8. Convert the list, e.g. with iconv.") from None


def _split(line: str, separator: str | None, several: bool) -> tuple[str, tuple[int, ...]]:
    """Split a line into the name and the whole numbers at its end."""
    name = line if separator is None else _without_end(line, separator)
    labels: list[int] = []
    while several or not labels:
        parts = name.rsplit(separator, 1)
        if len(parts) < 2 or not _is_whole(parts[1]):
            break
        name = parts[0].rstrip()
        labels.append(int(parts[1]))
    return name, tuple(reversed(labels))


def _without_end(line: str, separator: str) -> str:
    """Remove the empty columns that spreadsheets write at the end of a line."""
    while line.endswith(separator):
        line = line.removesuffix(separator).rstrip()
    return line


def _is_whole(text: str) -> bool:
    text = text.strip().removeprefix("-")
    return text.isascii() and text.isdigit()
