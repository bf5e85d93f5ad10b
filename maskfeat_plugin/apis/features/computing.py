"""Computation of the parts of a file of features, one part after the other, from batches of samples."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from tqdm import tqdm

from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.evaluation.features import batch_features, preserved_random_state

from ..model_loading import load_backbone
from .parts import FeatureParts, Part, describe_all_bad
from .reading import Batch, Reading, SampleReader
from .sources import Source
from .table import UNKNOWN, FeatureTable

# After so many bad samples in a row, check whether the disk can still be read
_IN_A_ROW = 10
# After so many bad samples before any good one, stop: the pipeline cannot read these files
_AT_FIRST = 100


class FeatureModel:
    """A model that computes the features of batches.

    Args:
        cfg (Config): The config.
        checkpoint (str | Path): The checkpoint.
        device (str): Device of the model.
        tokens (bool): Whether to return the features of every token.
        amp (str | None): See :func:`.extract_features`.
        dtype (str): Type of the features.
    """

    def __init__(
        self, cfg: Config, checkpoint: str | Path, device: str, tokens: bool, amp: str | None, dtype: str
    ) -> None:
        self._load = lambda: load_backbone(cfg, checkpoint, device)
        self._model: BaseModel | None = None
        self._tokens = tokens
        precision = torch.float32 if amp is None else getattr(torch, amp)
        self._autocast = torch.autocast(torch.device(device).type, precision, enabled=amp is not None)
        self._dtype = np.dtype(dtype)

    def load(self) -> None:
        """Build the model, unless it is built already."""
        if self._model is None:
            self._model = self._load()

    def __call__(self, rows: Sequence[dict]) -> tuple[np.ndarray, list[int]]:
        """Return the features and the labels of packed samples."""
        with preserved_random_state(), self._autocast:
            assert self._model is not None  # after load()
            features, samples = batch_features(self._model, pseudo_collate(rows), self._tokens)
        labels = [_label(sample) for sample in samples] if samples else [UNKNOWN] * len(features)
        return features.numpy().astype(self._dtype), labels


class Extractor:
    """Loop over parts of a file of features: it reads their samples, computes the features and stores each part.

    Args:
        model (FeatureModel): Model that computes the features.
        reader (SampleReader): Reader of the samples.
        parts (FeatureParts): The parts.
        bar (tqdm): Progress bar, counted in samples.
    """

    def __init__(self, model: FeatureModel, reader: SampleReader, parts: FeatureParts, bar: tqdm) -> None:
        self._model = model
        self._reader = reader
        self._source: Source = reader.source
        self._parts = parts
        self._bar = bar
        self._good = parts.find_good()
        self._bad: dict[int, str] = {}  # bad samples since the last good one

    def run(self, size: int, share: tuple[int, int]) -> None:
        """Compute the parts that no other process computes.

        Args:
            size (int): Number of samples of a part.
            share (tuple[int, int]): See :func:`.extract_features`.
        """
        for group, reading in self._start_ahead(size, share):
            self._do(group, reading)

    def _start_ahead(self, size: int, share: tuple[int, int]) -> Iterator[tuple["Group", Reading]]:
        """Yield groups of parts with their readings. A group's reading starts while the previous group is computed."""
        # a file with windows fills whole batches
        step = 1 if self._source.is_timed else self._reader.batch_size
        waiting = None
        for parts in _grouped(self._parts.take(size, share), self._source.part_size):
            tasks: list[list[int]] = []
            group: Group = {}
            for part in parts:
                pieces = [part.numbers[i : i + step] for i in range(0, len(part.numbers), step)]
                group[part] = range(len(tasks), len(tasks) + len(pieces))
                tasks += pieces
            started = group, self._reader.start(tasks)
            if waiting is not None:
                yield waiting
            waiting = started
        if waiting is not None:
            yield waiting

    def _do(self, group: "Group", reading: Reading) -> None:
        """Compute parts and store them."""
        done: dict[int, list[_Rows]] = {}
        begun: defaultdict[int, list[_Rows]] = defaultdict(list)
        while group:
            try:
                self._model.load()
                for batch in reading:
                    if batch is None:
                        begun.clear()
                        continue
                    begun[batch.task].append(self._compute(batch))
                    if batch.is_last:
                        done[batch.task] = begun.pop(batch.task)
                        reading.finish(batch.task)
                        self._watch(batch)
                        self._keep(group, done)
                self._keep(group, done)
            except Exception as error:  # torch reports the end of a worker by an exception at any place
                reading.blame(error)
                begun.clear()

    def _keep(self, group: "Group", done: dict[int, list["_Rows"]]) -> None:
        """Store the parts whose tasks are done."""
        for part in [part for part, tasks in group.items() if all(task in done for task in tasks)]:
            results = [rows for task in group[part] for rows in done[task]]
            bad = {number: reason for rows in results for number, reason in rows.batch.bad.items()}
            if bad:
                self._check_disk()
            rows = [
                row
                for result in results
                for row in zip(result.batch.numbers, result.labels, result.features, result.times, strict=True)
                if row[0] not in bad
            ]
            numbers = [row[0] for row in rows]
            table = FeatureTable(
                [self._source.names[number] for number in numbers],
                np.array([row[1] for row in rows], np.int64),
                np.stack([row[2] for row in rows]) if rows else np.zeros((0, 0), np.float32),
                np.array([row[3] for row in rows], np.float64).reshape(-1, 2) if self._source.is_timed else None,
            )
            counts = Counter(numbers)
            self._parts.add(part, table, [counts[number] for number in part.numbers], bad)
            for task in group.pop(part):
                del done[task]
            self._bar.update(len(part.numbers))

    def _compute(self, batch: Batch) -> "_Rows":
        if not batch.rows:
            return _Rows(batch, [], np.zeros((0, 0), np.float32), [])
        try:
            features, labels = self._model([row.packed for row in batch.rows])
        except ValueError as error:
            name = self._source.names[batch.numbers[0]]
            raise ConfigError(f"no features of {name}: {describe(error)}") from error
        return _Rows(replace(batch, rows=[]), labels, features, [row.time for row in batch.rows])

    def _watch(self, batch: Batch) -> None:
        """Stop early if the reason for bad samples is not in their files."""
        self._bad.update(batch.bad)
        if batch.numbers:
            self._good = batch.numbers[-1]
            self._bad.clear()
        elif self._good is None and len(self._bad) >= _AT_FIRST:
            raise ConfigError(describe_all_bad(self._named_bad(), len(self._bad)))
        elif len(self._bad) >= _IN_A_ROW:
            self._check_disk()
            self._bad.clear()

    def _check_disk(self) -> None:
        """Stop if a file that could be read before cannot be read now."""
        if self._good is None:
            return
        reason = self._reader.check(self._good)
        if reason is not None:
            raise ConfigError(
                f"{self._source.names[self._good]} could be read before, but cannot be read now ({reason}). Check the "
                "disk that holds it, and start again. Files that could not be read since the last part will be read "
                "again."
            )

    def _named_bad(self) -> dict[str, str]:
        return {self._source.names[number]: reason for number, reason in self._bad.items()}


@dataclass(frozen=True)
class _Rows:
    """Features of a batch, and the batch without its rows."""

    batch: Batch
    labels: list[int]
    features: np.ndarray
    times: list[tuple[float, float] | None]


# Part -> numbers of its tasks
Group = dict[Part, range]


def _grouped(parts: Iterator[Part], least: int) -> Iterator[list[Part]]:
    """Join small parts to groups, because the start of the workers for each group takes time."""
    group: list[Part] = []
    for part in parts:
        group.append(part)
        if sum(len(p.numbers) for p in group) >= least:
            yield group
            group = []
    if group:
        yield group


def _label(sample: object) -> int:
    """Return the class of a sample of mmpretrain or mmaction2, if it has exactly one."""
    label = getattr(sample, "gt_label", None)
    return UNKNOWN if label is None or label.numel() != 1 else int(label)
