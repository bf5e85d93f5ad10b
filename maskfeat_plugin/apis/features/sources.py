"""Sources of the samples for an extraction of features: files, windows of videos, or data sets."""

import hashlib
import random
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from maskfeat_plugin.config.checks import check_dataset_files
from maskfeat_plugin.config.folder_data import complete_endings
from maskfeat_plugin.config.given_arrays import sample_bits
from maskfeat_plugin.config.input_kinds import input_kind
from maskfeat_plugin.config.input_pipeline import (
    Input,
    InputPipeline,
    find_inputs,
    inference_pipeline,
    title_of,
)
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.datasets.folders import as_utf8
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.evaluation.features import preserved_random_state

from ..knn_evaluation import each_once
from .clip_windows import ClipReader

SPLITS = ("train", "val", "test")


class Source(Protocol):
    """Protocol of a source: samples in order.

    Attributes:
        names: The file of each sample, as UTF-8.
        keys: The unique key of each sample: its name, with a number added if the name occurs several times.
        settings: Settings that the samples depend on besides their files, for a digest.
        is_timed: Whether a sample gives several rows, each with a time.
        part_size: Number of samples of a part.
    """

    names: Sequence[str]
    keys: Sequence[str]
    settings: object
    is_timed: bool
    part_size: int

    def read(self, number: int) -> Iterator["Row"]:
        """Read a sample. The result is the same each time.

        Args:
            number (int): Number of the sample.

        Yields:
            Row: Output of the packing transform for each row of features of the sample.
        """
        ...


class Row(NamedTuple):
    """A packed sample or a part of it, and the seconds at which the part starts and ends."""

    packed: dict
    time: tuple[float, float] | None = None


class FileSource(Source):
    """Source of files and arrays, with one row for each.

    Args:
        cfg (Config): Config whose pipeline the inputs go through, see :func:`.inference_pipeline`.
        inputs (object): See :func:`.find_inputs`.
    """

    is_timed = False
    part_size = 1024

    def __init__(self, cfg: Config, inputs: object) -> None:
        pipeline = inference_pipeline(cfg)
        self.items = _find(cfg, pipeline, inputs)
        self.names = [as_utf8(item.name) for item in self.items]
        self.keys = unique_keys(self.names)
        arrays = [item.array for item in self.items if item.array is not None]
        self.settings = pipeline, [hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for a in arrays]
        self._pipeline = InputPipeline(cfg, pipeline)

    def read(self, number: int) -> Iterator[Row]:
        """Read a sample, see :class:`Source`."""
        yield Row(self._pipeline(self.items[number], _seed(self.keys[number])))


class WindowSource(Source):
    """Source of videos, with one row for each window of a given length, see :class:`.ClipReader`.

    Args:
        cfg (Config): Config whose pipeline the clips go through.
        inputs (object): Files, see :func:`.find_inputs`.
        seconds (float): Length of the windows.
    """

    is_timed = True
    part_size = 16

    def __init__(self, cfg: Config, inputs: object, seconds: float) -> None:
        pipeline = inference_pipeline(cfg)
        self._reader = ClipReader(cfg)
        self._items = _find(cfg, pipeline, inputs)
        arrays = [item.name for item in self._items if item.array is not None]
        if arrays:
            raise ConfigError(f"{arrays[0]} has no times, which windows need. Give files.")
        self.names = [as_utf8(item.name) for item in self._items]
        self.keys = unique_keys(self.names)
        self.settings = pipeline, seconds
        self._seconds = seconds

    def read(self, number: int) -> Iterator[Row]:
        """Read a sample, see :class:`Source`."""
        for packed, window in self._reader.read_windows(self._items[number].file, self._seconds):
            yield Row(packed, window)


class DataSetSource(Source):
    """Source of the samples of a config's data set. A sample is the same each time, even if its transforms are random.

    Args:
        cfg (Config): The config.
        split (str): One of :data:`SPLITS`.

    Raises:
        ConfigError: If the config has no such data set, or if the data set cannot be built or is empty.
    """

    is_timed = False
    part_size = 1024

    def __init__(self, cfg: Config, split: str) -> None:
        self.settings = cfg.get(f"{split}_dataloader")
        self._dataset = _build_dataset(cfg, split)
        names: list[str] = []
        for index in range(len(cast(Sized, self._dataset))):
            info = self._dataset.get_data_info(index) if hasattr(self._dataset, "get_data_info") else {}
            names.append(as_utf8(sample_path(info) or str(index)))
        self.names, self.keys = names, unique_keys(names)

    def read(self, number: int) -> Iterator[Row]:
        """Read a sample, see :class:`Source`."""
        with preserved_random_state():
            seed = _seed(self.keys[number])
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            sample = self._dataset[number]
        yield Row(sample)


def unique_keys(names: Sequence[str]) -> Sequence[str]:
    """Make names unique: append to each repeated name how often it occurred before.

    Args:
        names (Sequence[str]): The names.
    """
    if len(set(names)) == len(names):  # do not copy a list of millions of names
        return names
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        again = seen[name]
        keys.append(f"{name}\0{again}" if again else name)
        seen[name] += 1
    return keys


def _seed(key: str) -> int:
    """Return a seed that depends only on the key of a sample, not on its place in the list."""
    return zlib.crc32(key.encode())


def _find(cfg: Config, pipeline: Sequence[dict], inputs: object) -> list[Input]:
    title = title_of(cfg)
    return find_inputs(inputs, input_kind(pipeline, title), title, sample_channels(cfg), sample_bits(cfg))


def _build_dataset(cfg: Config, split: str) -> Dataset:
    key = f"{split}_dataloader"
    if split not in SPLITS or cfg.get(key) is None:
        there = [name for name in SPLITS if cfg.get(f"{name}_dataloader") is not None]
        raise ConfigError(f"{title_of(cfg)} has no data set {split!r}; it has {', '.join(there) or 'none'}.")
    complete_endings(cfg)
    config = cfg[key].dataset
    if split == "train":
        queries = next((cfg[f"{s}_dataloader"].dataset for s in ("val", "test") if cfg.get(f"{s}_dataloader")), None)
        if queries is None:
            kind = config.get("dataset_type", config.type)
            queries = ConfigDict(type=kind, pipeline=inference_pipeline(cfg), test_mode=True)
        config = each_once(config, queries)
    check_dataset_files(config, f"{key}.dataset")
    with named_errors(cfg, "cannot be built", (f"{key}.dataset",)):
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            dataset = DATASETS.build(config)
    if not len(dataset):
        raise ConfigError(f"{key}.dataset of {title_of(cfg)} is empty.")
    return dataset
