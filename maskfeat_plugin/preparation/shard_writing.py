"""Tar shards of the samples of a data set, for :mod:`maskfeat_plugin.datasets.tar_shards`."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.fileio import get
from mmengine.registry import DATASETS, DefaultScope

from maskfeat_plugin.config.checks import check_dataset_files
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.config.walking import leaf_datasets
from maskfeat_plugin.datasets.bad_files import SkipBadFiles
from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS, as_utf8, printable
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.datasets.tar_shards import INDEX_ENDING, ShardIndex, build_index, import_webdataset, read_index
from maskfeat_plugin.errors import ConfigError, describe, reading
from maskfeat_plugin.files import writing

from .parallel import run_parallel

_SETTINGS, LEFT_OUT = ".shards_settings.json", "left_out.txt"
_NAMED = 5


@dataclass(frozen=True)
class ShardSettings:
    """Settings of tar shards.

    Args:
        samples (int): Number of samples of a shard. Defaults to 1000.
        seed (int, optional): Seed of the order of the samples in the shards. Defaults to 0. None keeps the order of the
            data set, which usually puts the samples of a class into the same shards.
    """

    samples: int = 1000
    seed: int | None = 0


@dataclass(frozen=True)
class ShardReport:
    """Result of writing shards.

    Args:
        out (Path): The folder of the shards.
        shards (int): Number of shards.
        written (int): Number of shards that were written now; the others were finished before.
        samples (int): Number of samples of all shards.
        bytes (int): Size of all shards.
        problems (dict[str, str]): Path of each left-out file -> reason.
    """

    out: Path
    shards: int
    written: int
    samples: int
    bytes: int
    problems: dict[str, str]

    def summary(self) -> str:
        """Return lines with the counts, the first left-out files, and the ``ann_file`` for a config."""
        lines = [
            f"{self.samples} samples in {self.shards} shards, {self.written} written now; {self.bytes / 1e6:.1f} MB"
        ]
        if self.problems:
            lines.append(f"{len(self.problems)} left out, see {self.out / LEFT_OUT}:")
            lines += [f"  {printable(path)}: {reason}" for path, reason in list(self.problems.items())[:_NAMED]]
            lines += ["  ..."] * (len(self.problems) > _NAMED)
        numbers = f"{{{0:06d}..{self.shards - 1:06d}}}" if self.shards > 1 else f"{0:06d}"
        return "\n".join([*lines, f"ann_file={str(self.out / f'shard-{numbers}.tar')!r}"])


def build_dataset(cfg: Config, key: str) -> Any:
    """Build the data set of a dataloader.

    Args:
        cfg (Config): The config.
        key (str): Key of the dataloader.

    Raises:
        ConfigError: If there is no such data set, if its files are missing, or if it cannot be built.
    """
    config = (cfg.get(key) or {}).get("dataset")
    if config is None:
        raise ConfigError(f"the config has no {key}.dataset. Name another --dataloader.")
    for name, part in leaf_datasets(cfg[key], key):
        check_dataset_files(part, name)
    with (
        named_errors(cfg, "cannot be built", (f"{key}.dataset",)),
        DefaultScope.overwrite_default_scope(cfg.get("default_scope")),
    ):
        return DATASETS.build(config)


def write_shards(
    dataset: Any, out: str | Path, settings: ShardSettings, *, workers: int = 1, progress: bool = True
) -> ShardReport:
    """Write the files of a data set, with their labels, to tar shards and an index of each shard.

    A sample is the file, unchanged, and a json member with the other values of its ``get_data_info``, such as the
    label. webdataset's ``TarWriter`` writes a shard; its ``ShardWriter`` cannot continue, and leaves a half shard after
    an interruption. Here a shard gets its name only when it is complete, and the same call continues after any
    interruption. The same settings give the same bytes.

    Args:
        dataset (Any): A data set of mmengine's form. Of ``maskfeat.SkipBadFiles``, the wrapped data set is used.
        out (str | Path): The folder of the shards.
        settings (ShardSettings): The settings.
        workers (int): Number of processes. Defaults to 1.
        progress (bool): Whether to show progress. Defaults to True.

    Returns:
        ShardReport: The result.

    Raises:
        ConfigError: If samples have no file or values that JSON cannot hold, if ``out`` has shards of other samples, if
            no file of a shard can be read, or if a shard cannot be written.
    """
    import_webdataset()
    out, samples = Path(out), _list_samples(dataset)
    order = np.arange(len(samples))
    if settings.seed is not None:
        order = np.random.default_rng(settings.seed).permutation(order)
    starts = range(0, len(samples), settings.samples)
    plan = [[samples[number] for number in order[start : start + settings.samples]] for start in starts]
    _check_settings(out / _SETTINGS, settings, samples)
    todo = [number for number in range(len(plan)) if _finished(_shard_path(out, number)) is None]
    results: Iterator[tuple[int, str | None]] = run_parallel(
        partial(_write_or_describe, plan=plan, out=out),
        todo,
        crashed="its process ended unexpectedly",
        workers=workers,
        title="Write",
        unit="shard",
        chunk=1,
        progress=progress,
    )
    for number, problem in results:
        if problem is not None:
            raise ConfigError(f"{_shard_path(out, number)} is not written: {problem}.")
    return _report(out, plan, len(todo))


class _Sample(NamedTuple):
    """Sample to write: path of its file, its name relative to the folder of all files, and its other values as JSON."""

    path: str
    name: str
    meta: str


def _list_samples(dataset: Any) -> list[_Sample]:
    if isinstance(dataset, SkipBadFiles):
        dataset = dataset.dataset
    is_base = isinstance(dataset, BaseDataset)  # subclasses convert labels, and may draw samples of fewer files
    count = BaseDataset.__len__(dataset) if is_base else len(dataset)
    found = []
    for number in range(count):
        info = BaseDataset.get_data_info(dataset, number) if is_base else dataset.get_data_info(number)
        path = sample_path(info)
        if path is None or not path.lower().endswith((*IMAGE_ENDINGS, *VIDEO_ENDINGS)):
            raise ConfigError(f"sample {number} ({path}) is no image or video file. Shards can hold only these.")
        found.append((path, {key: value for key, value in info.items() if value != path and key != "sample_idx"}))
    folder = os.path.dirname(os.path.commonprefix([path for path, _ in found]))
    samples = []
    for path, meta in found:
        name = path[len(folder) :].lstrip("/")
        with reading(path, "has values that JSON cannot hold"):
            samples.append(_Sample(path, name, json.dumps(dict(meta, name=as_utf8(name)), default=_to_list)))
    return samples


def _to_list(value: Any) -> Any:
    """Convert an array or a tensor for JSON."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


def _check_settings(file: Path, settings: ShardSettings, samples: Sequence[_Sample]) -> None:
    """Compare the settings and samples with the existing shards, or save them if there are no shards."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.meta}\n".encode())
    now = dict(asdict(settings), count=len(samples), sha256=digest.hexdigest())
    if file.is_file():
        with reading(file, "is damaged", f"Remove {file.parent}."):
            before = json.loads(file.read_text("utf-8"))
        if before != now:
            raise ConfigError(
                f"{file.parent} has shards of other samples or settings. Give the same, or another folder."
            )
        return
    with writing(file) as unfinished:
        unfinished.write_text(json.dumps(now), "utf-8")


def _shard_path(out: Path, number: int) -> Path:
    return out / f"shard-{number:06d}.tar"


def _finished(shard: Path) -> ShardIndex | None:
    """Return the index of a shard that is complete; otherwise None. The index is written after the shard."""
    index = read_index(f"{shard}{INDEX_ENDING}")
    return index if index is not None and shard.is_file() and shard.stat().st_size == index.bytes else None


def _write_or_describe(number: int, plan: Sequence[Sequence[_Sample]], out: Path) -> str | None:
    """Write a shard and its index. Return the reason if that fails."""
    try:
        _write_shard(plan[number], _shard_path(out, number), number * len(plan[0]))
    except ConfigError as error:
        return str(error)
    return None


def _write_shard(samples: Sequence[_Sample], shard: Path, first: int) -> None:
    left_out = {}
    with writing(shard) as unfinished:
        with open(unfinished, "wb") as file, import_webdataset().TarWriter(file, encoder=False, mtime=0) as tar:
            for number, sample in enumerate(samples, first):
                try:
                    content = _read(sample.path)
                except (OSError, ValueError) as error:
                    left_out[sample.path] = describe(error)
                    continue
                ending = os.path.splitext(sample.path)[1][1:].lower()
                tar.write({"__key__": f"{number:09d}", ending: content, "json": sample.meta.encode()})
        if len(left_out) == len(samples):
            path, reason = next(iter(left_out.items()))
            raise ConfigError(f"none of its {len(samples)} files can be read, such as {path} ({reason})")
    index = build_index(str(shard))
    with writing(f"{shard}{INDEX_ENDING}") as unfinished:
        unfinished.write_text(index.to_json(), "utf-8")


def _read(path: str) -> bytes:
    content = get(path)
    if not content:
        raise ValueError("it is empty")
    return bytes(content)


def _report(out: Path, plan: Sequence[Sequence[_Sample]], written: int) -> ShardReport:
    """Read the indexes of all shards, and write the list of the left-out files."""
    indexes = [_finished(_shard_path(out, number)) for number in range(len(plan))]
    problems = {}
    for samples, index in zip(plan, indexes, strict=True):
        if index is None:
            raise ConfigError(f"{out}: a shard was removed while the others were written. Run the command again.")
        names = {sample["meta"]["name"] for sample in index.samples}
        for sample in samples if len(names) < len(samples) else ():
            if as_utf8(sample.name) not in names:
                problems[sample.path] = _why_left_out(sample.path)
    if problems or (out / LEFT_OUT).exists():
        with writing(out / LEFT_OUT) as unfinished:
            lines = [f"{printable(path)}\t{reason}\n" for path, reason in problems.items()]
            unfinished.write_text("".join(lines), "utf-8")
    whole = [index for index in indexes if index is not None]
    count, size = sum(len(index.samples) for index in whole), sum(index.bytes for index in whole)
    return ShardReport(out, len(plan), written, count, size, problems)


def _why_left_out(path: str) -> str:
    try:
        _read(path)
    except (OSError, ValueError) as error:
        return describe(error)
    return "it could not be read when its shard was written; remove the shard to write it again"
