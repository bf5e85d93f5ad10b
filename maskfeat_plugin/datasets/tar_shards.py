"""Tar shards in the format of webdataset: the names of shards, the index of a shard, and the samples of a data set.

A data set of tar shards is read by index and not as a stream (``webdataset.WebDataset``). A stream splits whole shards
over processes and workers, so their numbers of samples differ, and it cannot continue in the middle of an epoch with
the same samples. With an index of the members, mmengine's samplers split the samples exactly, this package resumes at
any step, and :class:`.SkipBadFiles` replaces single members. webdataset itself expands the names, groups the members to
samples and writes the shards. The index needs no package: it is one JSON file for each shard.
"""

import json
import logging
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import groupby
from typing import IO, Any

from mmengine.logging import print_log

from maskfeat_plugin.errors import ConfigError, WriteError, describe, reading
from maskfeat_plugin.files import writing
from maskfeat_plugin.storage import FsspecBackend

from .folders import IMAGE_ENDINGS, VIDEO_ENDINGS
from .sample_paths import sample_path
from .tar_members import Member, file_size, is_member, is_url, parse_uri, read_range

INDEX_ENDING = ".index.json"
_VERSION = 1
_AT_ONCE = 16  # indexes that are read at the same time; object storage answers slowly
_MAX_META = 1 << 20  # bytes of a label or json member


@dataclass
class ShardIndex:
    """Samples of a tar file.

    Args:
        bytes (int): Size of the tar file.
        samples (list[dict]): For each sample its ``name``, the ``offset`` and ``size`` of the image or video, and
            ``meta`` (dict): the content of its json member, and ``label`` from its cls member.
        problems (list[str]): Damaged places, and samples that were left out.
    """

    bytes: int
    samples: list[dict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the text of the index file."""
        return json.dumps(dict(vars(self), version=_VERSION))


class CountsShards:
    """Part of a data set that counts the samples of each shard, for :class:`.ShardSampler`."""

    def _serialize_data(self) -> Any:
        self._shard_sizes = _count_by_shard(self.data_list)  # type: ignore[attr-defined]  # of mmengine's BaseDataset
        return super()._serialize_data()  # type: ignore[misc]  # the same

    @property
    def shard_sizes(self) -> list[int]:
        """Number of samples of each shard, in the order of the samples; empty for other data."""
        dataset: Any = self
        dataset.full_init()
        return self._shard_sizes if dataset.serialize_data else _count_by_shard(dataset.data_list)


def is_shards(ann_file: object) -> bool:
    """Check whether an ``ann_file`` names tar shards: a list of them, or a pattern that ends in ``.tar``."""
    return isinstance(ann_file, list | tuple) or str(ann_file).endswith((".tar", ".tar}"))


def as_pattern(ann_file: str | Sequence[str]) -> str:
    """Convert a list of shards to one pattern. A string is returned unchanged.

    Args:
        ann_file (str | Sequence[str]): The value in a config.

    Raises:
        ConfigError: If the list is empty.
    """
    if isinstance(ann_file, str):
        return ann_file
    if not ann_file:
        raise ConfigError("ann_file is an empty list. List the tar shards.")
    return ann_file[0] if len(ann_file) == 1 else f"{{{','.join(ann_file)}}}"


def expand_shards(pattern: str) -> list[str]:
    """Return the paths of shards.

    Args:
        pattern (str): Names with braces: ``shard-{000000..000127}.tar`` or ``{a.tar,b.tar}``.

    Raises:
        ConfigError: If a name does not end in ``.tar``, if a shard is named twice, or if webdataset is not installed.
    """
    import_webdataset()
    from braceexpand import braceexpand  # a part of webdataset's installation

    with reading(pattern, "is no pattern of shards"):
        shards = list(braceexpand(pattern))
    others = [name for name in shards if not name.endswith(".tar")]
    if others:
        raise ConfigError(f"{pattern}: {others[0]!r} does not end in .tar. Compressed tar files cannot be shards.")
    if len(set(shards)) < len(shards):
        raise ConfigError(f"{pattern} names a shard twice. Name each shard once.")
    return shards


def read_samples(pattern: str, image: bool, with_label: bool) -> list[dict]:
    """Read the samples of shards, in their order.

    Args:
        pattern (str): See :func:`expand_shards`.
        image (bool): Whether the samples are images, and not videos.
        with_label (bool): Whether each sample needs a label.

    Returns:
        list[dict]: ``img_path`` or ``filename`` for :class:`.TarBackend`, ``gt_label`` or ``label``, and the other
        values of the json member. A video without a label has -1.

    Raises:
        ConfigError: If a shard cannot be read, if there is no sample, or if a label is missing.
    """
    shards = expand_shards(pattern)
    endings = IMAGE_ENDINGS if image else VIDEO_ENDINGS
    path_key, label_key = ("img_path", "gt_label") if image else ("filename", "label")
    samples: list[dict] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for shard, index in zip(shards, pool.map(load_index, shards), strict=True):
            for problem in index.problems:
                print_log(f"Left out of {shard}: {problem}", "current", logging.WARNING)
            for sample in index.samples:
                name, meta = sample["name"], dict(sample["meta"])
                if not name.lower().endswith(endings):
                    continue
                label = meta.pop("label", None) if label_key not in meta else meta.pop(label_key)
                if label is None and with_label:
                    raise ConfigError(f"{shard}: {name} has no label. Set with_label=False, or write the labels.")
                if with_label or not image:
                    meta[label_key] = -1 if label is None else label
                samples.append({**meta, path_key: Member(shard, sample["offset"], sample["size"], name).uri()})
    if not samples:
        raise ConfigError(f"{pattern}: the {len(shards)} shards have no {'image' if image else 'video'}.")
    return samples


def load_index(shard: str) -> ShardIndex:
    """Read the index file beside a shard. If it is missing or of another state of the shard, build and keep it.

    Args:
        shard (str): Path or URL of the tar file.

    Raises:
        ConfigError: If the shard cannot be read.
    """
    size, path = file_size(shard), shard + INDEX_ENDING
    index = read_index(path)
    if index is not None and index.bytes == size:
        return index
    before = None if index is None else len(index.samples)
    index = build_index(shard)
    if before is not None:
        index.problems.append(
            f"it has {size} bytes, but its index was written for another size; {len(index.samples)} of {before} "
            "samples are left"
        )
    if index.samples and not is_url(shard):
        try:
            with writing(path) as unfinished:
                unfinished.write_text(index.to_json(), encoding="utf-8")
        except WriteError as error:
            print_log(f"The index of {shard} is not kept: {error}", "current", logging.WARNING)
    return index


def build_index(shard: str) -> ShardIndex:
    """Read the headers of all members of a tar file. Damaged places and incomplete samples are left out and described.

    Args:
        shard (str): Path or URL of the tar file.

    Raises:
        ConfigError: If it cannot be read, or if it is no tar file.
    """
    with reading(shard, "is no tar file, or cannot be read"):
        if not is_url(shard):
            with open(shard, "rb") as file:
                return _scan(file, shard, file_size(shard))
        with BufferedReader(FsspecBackend().open(shard)) as remote:
            return _scan(remote, shard, file_size(shard))


def _scan(file: IO[bytes], shard: str, size: int) -> ShardIndex:
    wds = import_webdataset()
    index, damage = ShardIndex(size), list[str]()

    def note(error: Exception) -> bool:
        index.problems.append(str(error.args[0]))
        return True

    files = (dict(fname=info.name, data=info, __url__=shard) for info in _members(file, size, damage))
    for sample in wds.tariterators.group_by_keys(files, handler=note):
        parts = {f".{ending}": info for ending, info in sample.items() if isinstance(info, tarfile.TarInfo)}
        media = next((parts[ending] for ending in sorted(parts) if ending in (*IMAGE_ENDINGS, *VIDEO_ENDINGS)), None)
        cut = [info.name for info in parts.values() if info.offset_data + info.size > size]
        if cut:
            index.problems.append(f"{cut[0]} is cut short")
        elif media is None:
            index.problems.append(f"{sample['__key__']} has no image or video, only {', '.join(sorted(parts))}")
        else:
            try:
                meta = _read_meta(file, parts)
            except ValueError as error:
                index.problems.append(f"{media.name}: its labels cannot be read ({describe(error)})")
            else:
                index.samples.append(dict(name=media.name, offset=media.offset_data, size=media.size, meta=meta))
    if damage and any(sample["meta"] for sample in index.samples):  # a label can be lost beside a damaged place
        lost = [sample for sample in index.samples if not sample["meta"]]
        index.problems += [f"{sample['name']} has lost its labels" for sample in lost]
        index.samples = [sample for sample in index.samples if sample["meta"]]
    index.problems += damage
    if not index.samples and not index.problems:
        raise ValueError("it has no members")
    return index


def _members(file: IO[bytes], size: int, problems: list[str]) -> Iterator[tarfile.TarInfo]:
    """Yield the files of a tar file. ``tarfile`` ends at a damaged header without an error, or goes on behind it."""
    end = 0  # the place of the next header
    # ignore_zeros: continue at the next header that is whole
    with tarfile.open(fileobj=file, mode="r:", ignore_zeros=True) as archive:
        while True:
            try:
                info = archive.next()
            except tarfile.TarError as error:
                if end < size:
                    problems.append(f"bytes {end} to {size} cannot be read ({error})")
                return
            stop = size if info is None else info.offset
            if _has_content(file, end, stop):
                problems.append(f"bytes {end} to {stop} are damaged; members may be missing")
            if info is None:
                if size - end < 2 * tarfile.BLOCKSIZE:
                    problems.append("it has no end, so it may be cut short")
                return
            blocks = -(-info.size // tarfile.BLOCKSIZE) if info.isreg() else 0
            end = info.offset_data + blocks * tarfile.BLOCKSIZE
            if info.isreg():
                yield info


def _has_content(file: IO[bytes], start: int, stop: int) -> bool:
    """Check whether a part of a file has other bytes than zero."""
    file.seek(start)
    while start < stop:
        block = file.read(min(stop - start, 1 << 20))
        if not block or any(block):
            return bool(block)
        start += len(block)
    return False


def _read_meta(file: IO[bytes], parts: dict[str, tarfile.TarInfo]) -> dict:
    """Read the json member and the cls member of a sample."""
    meta: dict = {}
    for ending in (".json", ".cls"):
        info = parts.get(ending)
        if info is None:
            continue
        if info.size > _MAX_META:
            raise ValueError(f"{info.name} has {info.size} bytes")
        file.seek(info.offset_data)
        text = file.read(info.size).decode("utf-8")
        if ending == ".cls":
            meta.setdefault("label", int(text))
        elif isinstance(found := json.loads(text), dict):
            meta.update(found)
        else:
            raise ValueError(f"{info.name} is no JSON object")
    return meta


def read_index(path: str) -> ShardIndex | None:
    """Read an index file; return None if it is missing or of another version."""
    try:
        text = read_range(path, 0, file_size(path)).decode("utf-8")
        content = json.loads(text)
        if content.pop("version") == _VERSION:
            return ShardIndex(**content)
    except (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _count_by_shard(samples: Sequence[dict]) -> list[int]:
    paths = (sample_path(sample) or "" for sample in samples)
    runs = groupby(parse_uri(path).shard if is_member(path) else None for path in paths)
    counts = [(shard, sum(1 for _ in run)) for shard, run in runs]
    return [count for shard, count in counts if shard is not None]


def import_webdataset() -> Any:
    """Import webdataset. Only tar shards need it.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import webdataset
    except ImportError as error:
        raise ConfigError(
            "tar shards need webdataset, which is not installed. Run pip install 'maskfeat_plugin[shards]'."
        ) from error
    return webdataset
