"""Parts of an incomplete file of features, in a hidden folder beside the file. Several processes share the folder."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from maskfeat_plugin.datasets.bad_file_list import BadFile, BadFileList
from maskfeat_plugin.datasets.folders import printable
from maskfeat_plugin.errors import ConfigError, reading
from maskfeat_plugin.files import naming, writing
from maskfeat_plugin.locks import Claims, locked

from .files import write_features
from .table import FeatureTable, join_tables

# Number of the claim on the file itself; claims on parts have larger numbers
_WHOLE = 0
_NAMED = 3
# Number of rows that are written at once
_ROWS = 1024


@dataclass(frozen=True, eq=False)
class Part:
    """Samples whose features are stored together in one file.

    Args:
        numbers (list[int]): Numbers of the samples, in order.
        path (Path): The file.
        claim (int): Number of the claim on this part.
    """

    numbers: list[int]
    path: Path
    claim: int


class FeatureParts:
    """The parts of a file of features.

    A part stores the keys of its samples. So it stays valid after files were added to the list or removed from it.

    Args:
        out (Path): The file.
        settings (dict): Settings that the features depend on besides the samples, in types that JSON can hold.
        keys (Sequence[str]): A unique key for each sample, see :func:`.unique_keys`.
        origin (Mapping[str, str]): See :class:`.FeatureTable`.
        is_shared (bool): Whether this process does only a share of the work. Then other processes may have completed
            the file before this process started. Defaults to False.

    Raises:
        ConfigError: If the file exists and the work is not shared, or if there are parts with other settings.
    """

    def __init__(
        self, out: Path, settings: dict, keys: Sequence[str], origin: Mapping[str, str], is_shared: bool = False
    ) -> None:
        self._out = out
        self._folder = out.with_name(f".{out.name}.parts")
        self._keys = keys
        self._origin = origin
        self._numbers = {key: number for number, key in enumerate(keys)}
        self._claims: Claims | None = None
        self._paths: list[Path] = []
        # for each sample: its part as an index into _paths (-1 for none), its first row there, its number of rows
        self._part_of = np.full(len(keys), -1)
        self._begins = np.zeros(len(keys), np.int64)
        self._counts = np.zeros(len(keys), np.int64)  # 0 for a bad sample
        if out.exists():
            if not self._folder.is_dir() and not is_shared:
                raise ConfigError(f"{out} is there already; remove it or name another file.")
            return  # an earlier run was stopped after it wrote the file, and only has to remove the parts
        try:
            self._begin(settings)
        except ConfigError:
            if not out.exists():  # otherwise another process has just written the file and removed the parts
                raise

    def _begin(self, settings: dict) -> None:
        """Make the folder, or read the folder that exists."""
        file = self._folder / "settings.json"
        with naming(file), locked(self._folder / "settings.lock"):
            if file.is_file():
                with reading(file, "is damaged", f"Remove {self._folder}."):
                    self._check_same(json.loads(file.read_text()), settings)
            else:
                with writing(file) as unfinished:
                    unfinished.write_text(json.dumps(settings, indent=2))
            self._claims = Claims(self._folder / "claims")
        self._look()

    def is_done(self) -> bool:
        """Check whether the file is complete."""
        return self._out.exists()

    def count_missing(self) -> int:
        """Return the number of samples that no part has, including the parts of other processes."""
        try:
            self._look()
        except ConfigError:
            if not self.is_done():  # otherwise another process has removed the parts
                raise
        return int((self._part_of < 0).sum())

    def find_good(self) -> int | None:
        """Return the number of a sample that could be read, None if none is known."""
        found = np.flatnonzero(self._counts)
        return int(found[0]) if len(found) else None

    def take(self, size: int, share: tuple[int, int]) -> Iterator[Part]:
        """Claim and yield the parts that are left to do, each when the caller asks for the next one.

        The parts are the same for all processes with the same list, independent of when a process starts: each part has
        ``size`` of the samples that no part had at the start.

        Args:
            size (int): Number of samples of a part.
            share (tuple[int, int]): Number of the share, from 0, and the number of shares.
        """
        index, count = share
        missing = np.flatnonzero(self._part_of < 0)
        for begin in range(0, len(missing), size):
            numbers = missing[begin : begin + size].tolist()
            position = numbers[0] // size
            if position % count != index:
                continue
            digest = hashlib.sha256(json.dumps([self._keys[number] for number in numbers]).encode()).hexdigest()
            part = Part(numbers, self._folder / f"{position:06d}-{digest[:12]}.npz", 1 + int(digest[:12], 16))
            if self.is_done() or part.path.is_file() or not self._begun().take(part.claim):
                continue
            if part.path.is_file():  # another process has completed it since the check above
                self._begun().give_back(part.claim)
                continue
            yield part

    def add(self, part: Part, table: FeatureTable, counts: Sequence[int], bad: dict[int, str]) -> None:
        """Write a part.

        Args:
            part (Part): The part.
            table (FeatureTable): Its rows, in the order of its samples.
            counts (Sequence[int]): Number of rows of each sample.
            bad (dict[int, str]): Number of a sample that cannot be read -> reason.

        Raises:
            ConfigError: If the part cannot be written.
        """
        content: dict[str, Any] = dict(
            keys=_pack([self._keys[number] for number in part.numbers]),
            counts=np.array(counts, np.int64),
            bad=_pack([[self._keys[number], reason] for number, reason in bad.items()]),
            names=np.array(table.names, str),
            labels=table.labels,
            features=table.features,
        )
        if table.times is not None:
            content["times"] = table.times
        if bad:
            with naming(self.bad_list):
                BadFileList(self.bad_list).add({self._printable(n): BadFile(reason) for n, reason in bad.items()})
        with writing(part.path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, **content)
        self._begun().give_back(part.claim)

    @property
    def bad_list(self) -> Path:
        """List of the files that cannot be read, with one line for each: path, tab, reason."""
        return self._out.with_name(f"{self._out.name}.bad_files.txt")

    def merge(self) -> tuple[int, int] | None:
        """Write the file and the list of bad files from the parts, and remove the parts. No part may be missing.

        Returns:
            tuple[int, int] | None: Number of rows and of bad files; None if another process writes the file.

        Raises:
            ConfigError: If no sample could be read, a part is damaged, or the file cannot be written.
        """
        if not self._begun().take(_WHOLE) or self.is_done():
            return None
        bad = self._bad_files()
        rows = int(self._counts.sum())
        if not rows:
            self.remove()
            self.bad_list.unlink(missing_ok=True)
            raise ConfigError(describe_all_bad(bad, len(self._keys)))
        if bad:
            with writing(self.bad_list) as unfinished:
                lines = "".join(f"{path}\t{reason}\n" for path, reason in bad.items())
                unfinished.write_text(lines, encoding="utf-8")
        else:
            self.bad_list.unlink(missing_ok=True)
        write_features(self._out, self._tables(), rows)
        self.remove()
        return rows, len(bad)

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """End all claims."""
        if self._claims is not None:
            self._claims.close()

    def _begun(self) -> Claims:
        assert self._claims is not None  # parts are not claimed if the file is complete
        return self._claims

    def _look(self) -> None:
        """Find new parts and read which samples they have."""
        for path in sorted(set(self._folder.glob("*.npz")) - set(self._paths)):
            with reading(path, "is damaged", f"Remove {path}."), np.load(path) as content:
                keys, counts = _unpack(content["keys"]), content["counts"]
            numbers = np.array([self._numbers.get(key, -1) for key in keys])
            there = numbers >= 0
            self._part_of[numbers[there]] = len(self._paths)
            self._counts[numbers[there]] = counts[there]
            self._begins[numbers[there]] = (np.cumsum(counts) - counts)[there]
            self._paths.append(path)

    def _bad_files(self) -> dict[str, str]:
        """Return path -> reason of all bad files, in the order of the list."""
        reasons: dict[str, str] = {}
        for path in self._paths:
            with reading(path, "is damaged", f"Remove {path}."), np.load(path) as content:
                reasons.update(_unpack(content["bad"]))
        return {
            self._printable(number): reasons.get(self._keys[number], "it has no clip")
            for number in np.flatnonzero(self._counts == 0).tolist()
        }

    def _printable(self, number: int) -> str:
        return printable(self._keys[number].partition("\0")[0])

    def _tables(self) -> Iterator[FeatureTable]:
        """Yield all rows in the order of the list, in tables of :data:`_ROWS` rows; only the last may be shorter."""
        load = lru_cache(4)(self._load)  # after files were added, neighbouring samples may be in different parts
        kept: list[FeatureTable] = []
        rows = 0
        edges = np.flatnonzero(np.diff(self._part_of)) + 1
        for numbers in np.split(np.arange(len(self._keys)), edges):
            if not self._counts[numbers].any():
                continue
            part = load(self._part_of[numbers[0]])
            wanted = [np.arange(b, b + n) for b, n in zip(self._begins[numbers], self._counts[numbers], strict=True)]
            kept.append(part.take(np.concatenate(wanted)))
            rows += len(kept[-1].names)
            if rows >= _ROWS:
                whole = join_tables(kept)
                for begin in range(0, rows - rows % _ROWS, _ROWS):
                    yield whole.take(np.arange(begin, begin + _ROWS))
                kept = [whole.take(np.arange(rows - rows % _ROWS, rows))]
                rows %= _ROWS
        if rows:
            yield join_tables(kept)

    def _load(self, number: int) -> FeatureTable:
        path = self._paths[number]
        with reading(path, "is damaged", f"Remove {path}."), np.load(path) as content:
            times = content["times"] if "times" in content else None
            return FeatureTable(content["names"].tolist(), content["labels"], content["features"], times, self._origin)

    def _check_same(self, found: dict, settings: dict) -> None:
        different = [key for key, value in settings.items() if found.get(key) != value]
        if different:
            raise ConfigError(
                f"{self._folder} has parts of an extraction with another {', '.join(different)}. Continue that "
                "extraction, remove the folder to start again, or name another file."
            )


def describe_all_bad(bad: dict[str, str], count: int) -> str:
    """Return the error message for the case that no file can be read.

    Args:
        bad (dict[str, str]): Path -> reason of some of the files.
        count (int): Number of all files.
    """
    named = ", ".join(f"{path} ({reason})" for path, reason in list(bad.items())[:_NAMED])
    which = f"none of {count} files can be read" if count > 1 else "the file cannot be read"
    return f"{which}: {named}. Give other files, or a config whose pipeline reads them."


def _pack(value: object) -> np.ndarray:
    """Return a value as an array of JSON bytes, which is smaller than an array of strings."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _unpack(array: np.ndarray) -> list:
    return json.loads(array.tobytes())
