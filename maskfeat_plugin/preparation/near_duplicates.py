"""Search for near-duplicates and for videos without motion in a manifest."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from maskfeat_plugin.datasets.manifest import ENDING, VIDEO, Manifest, is_manifest, read_manifest, write_manifest
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing

# Largest differences in motion and in seconds between copies of a video
_SAME_MOTION, _SAME_SECONDS = 0.003, 1.0
# Hashes are looked up by parts of this number of bits. If two hashes differ in at most 4 r + 3 bits, at least one part
# differs in at most r bits.
_PART, _PARTS = 16, 4
MOST_BITS = 11
_PAIRS = 1 << 22  # number of pairs compared at a time
_COUNTS = np.unpackbits(np.arange(1 << _PART, dtype=np.uint16).view(np.uint8)).reshape(-1, _PART).sum(1, dtype=np.uint8)
# Number of files that a summary names
_NAMED = 5


@dataclass(frozen=True)
class Redundancy:
    """Files of a manifest that a training does not need.

    Args:
        manifest (Manifest): All rows.
        kept (np.ndarray): int64 (N,). If a row is a near-duplicate, the number of the row of the kept file, otherwise
            its own number.
        is_static (np.ndarray): bool (N,), whether a row is a video without motion.
        bits (np.ndarray): int64 (N,), number of bits in which the hash differs from the hash of row ``kept``.
        readable (int): Number of readable files.
    """

    manifest: Manifest
    kept: np.ndarray
    is_static: np.ndarray
    bits: np.ndarray
    readable: int

    @property
    def is_copy(self) -> np.ndarray:
        """Return bool (N,): whether a row is a near-duplicate of another one."""
        return self.kept != np.arange(len(self.kept))

    def reduced(self) -> Manifest:
        """Return the manifest without static videos and near-duplicates."""
        return Manifest(self.manifest.folder, self.manifest.table.filter(~(self.is_static | self.is_copy)))

    def summary(self) -> str:
        """Return lines with the counts and the first files of each kind."""
        copies = np.unique(self.kept[self.is_copy])
        lines = [
            f"{self.readable} files can be read: {self.is_static.sum()} static videos, {self.is_copy.sum()} "
            f"near-duplicates of {len(copies)} others; {self.readable - (self.is_static | self.is_copy).sum()} are left"
        ]
        for reason in ("static", "near-duplicate"):
            rows = [row for row in self._rows(reason, _NAMED + 1)]
            for row in rows[:_NAMED]:
                like = f" of {row['kept']} ({row['bits']} bits)" if row["kept"] else f" (motion {row['motion']:.4f})"
                lines.append(f"  {row['path']}: {reason}{like}")
            lines += ["  ..."] * (len(rows) > _NAMED)
        return "\n".join(lines)

    def write_report(self, path: str | Path) -> None:
        """Write a table of all static videos and near-duplicates: path, reason, kept, bits, motion.

        Args:
            path (str | Path): The file, CSV.

        Raises:
            ConfigError: If the file cannot be written.
        """
        with writing(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ("path", "reason", "kept", "bits", "motion"))
            table.writeheader()
            for reason in ("static", "near-duplicate"):
                table.writerows(self._rows(reason))

    def _rows(self, reason: str, most: int | None = None) -> Iterator[dict]:
        table, is_static = self.manifest.table, reason == "static"
        for row in np.flatnonzero(self.is_static if is_static else self.is_copy)[:most].tolist():
            path, motion = table["path"][row].as_py(), table["motion"][row].as_py()
            kept, bits = ("", "") if is_static else (table["path"][int(self.kept[row])].as_py(), int(self.bits[row]))
            yield dict(path=path, reason=reason, kept=kept, bits=bits, motion=motion)


def find_redundancy(manifest: Manifest, bits: int = 4, motion: float = 0.002) -> Redundancy:
    """Find the near-duplicates and the static videos among the readable files.

    Two files are near-duplicates if they are of the same kind and their hashes differ in few bits. For videos, their
    durations must also differ by at most 1 second and their motion by at most 0.003. Two files that are both
    near-duplicates of a third one are near-duplicates too. The kept file of a group is the one with the largest
    picture; among equal ones the longest, then the one whose path is first.

    Args:
        manifest (Manifest): A manifest with all columns.
        bits (int): Number of bits in which the hashes of near-duplicates may differ, in [0, 11]. Above 3 the search
            takes much more time, and above 7 again. Defaults to 4.
        motion (float): Videos with less motion are static. Defaults to 0.002.

    Returns:
        Redundancy: The result.

    Raises:
        ConfigError: If ``bits`` is out of range.
    """
    if not 0 <= bits <= MOST_BITS:
        raise ConfigError(f"--bits {bits}: hashes are compared up to {MOST_BITS} bits. Give 0 to {MOST_BITS}.")
    table = manifest.table
    is_video = table["kind"].combine_chunks().to_numpy(zero_copy_only=False) == VIDEO
    has_hash = table["hash"].is_valid().combine_chunks().to_numpy(zero_copy_only=False)
    hashes = table["hash"].fill_null(0).to_numpy()
    motions = table["motion"].fill_null(0).to_numpy().astype(np.float64)
    seconds = table["duration"].fill_null(0).to_numpy()
    pixels = table["width"].fill_null(0).to_numpy().astype(np.int64) * table["height"].fill_null(0).to_numpy()
    is_static = is_video & has_hash & (motions < motion)
    kept = np.arange(len(table))
    for rows in (np.flatnonzero(has_hash & ~is_static & (is_video == kind)) for kind in (False, True)):
        groups = group_near(hashes[rows], motions[rows], seconds[rows], bits)
        best = np.lexsort((rows, -seconds[rows], -pixels[rows], groups))
        _, first = np.unique(groups[best], return_index=True)
        kept[rows] = rows[best[first]][groups]
    return Redundancy(manifest, kept, is_static, count_bits(hashes ^ hashes[kept]), int(has_hash.sum()))


def deduplicate(
    path: str | Path,
    out: str | Path | None = None,
    report: str | Path | None = None,
    bits: int = 4,
    motion: float = 0.002,
) -> Redundancy:
    """Find the near-duplicates and static videos of a manifest. Write a report, and a manifest without them.

    Args:
        path (str | Path): The manifest.
        out (str | Path, optional): The new manifest. Defaults to None: none is written.
        report (str | Path, optional): See :meth:`Redundancy.write_report`. Defaults to None: none is written.
        bits (int): See :func:`find_redundancy`. Defaults to 4.
        motion (float): See :func:`find_redundancy`. Defaults to 0.002.

    Returns:
        Redundancy: The result.

    Raises:
        ConfigError: If the manifest cannot be read, or if ``out`` is not the name of another manifest.
    """
    if out is not None and (not is_manifest(out) or Path(out).resolve() == Path(path).resolve()):
        raise ConfigError(f"--out {out}: it must not be the old manifest. Give another name, with {ENDING}.")
    found = find_redundancy(read_manifest(path), bits, motion)
    if report is not None:
        found.write_report(report)
    if out is not None:
        write_manifest(out, found.manifest.folder, [found.reduced().table])
    return found


def group_near(hashes: np.ndarray, motions: np.ndarray, seconds: np.ndarray, bits: int) -> np.ndarray:
    """Group files whose hash, motion and seconds are near each other, or near the values of a third file in the group.

    Not every file is compared with all others. Two hashes that differ in few bits have a part of 16 bits that is equal
    or nearly equal. Files are sorted by one part and by their motion, and compared with the files that have a similar
    part.

    Args:
        hashes (np.ndarray): uint64 (N,).
        motions (np.ndarray): float64 (N,), in [0, 1].
        seconds (np.ndarray): float64 (N,).
        bits (int): Number of bits in which near hashes may differ, in [0, 11].

    Returns:
        np.ndarray: int64 (N,), number of the group of each file, from 0.
    """
    if not len(hashes):
        return np.zeros(0, np.int64)
    order = np.lexsort((seconds, motions, hashes))
    is_new = np.ones(len(order), bool)  # only the first of several files with equal values is compared
    is_new[1:] = np.any([np.diff(values[order]) != 0 for values in (hashes, motions, seconds)], axis=0)
    node_of = np.empty(len(order), np.int64)
    node_of[order] = np.cumsum(is_new) - 1
    hashes, motions, seconds = (values[order[is_new]] for values in (hashes, motions, seconds))
    groups = np.arange(len(hashes))
    for first, second in _candidates(hashes, motions, bits // _PARTS):
        is_open = groups[first] != groups[second]
        first, second = first[is_open], second[is_open]
        is_near = count_bits(hashes[first] ^ hashes[second]) <= bits
        is_near &= np.abs(motions[first] - motions[second]) <= _SAME_MOTION
        is_near &= np.abs(seconds[first] - seconds[second]) <= _SAME_SECONDS
        if is_near.any():
            groups = _merge(groups, first[is_near], second[is_near])
    return np.unique(groups, return_inverse=True)[1][node_of]


def count_bits(values: np.ndarray) -> np.ndarray:
    """Count the bits of uint64 (N,) that are 1."""
    return _COUNTS[np.ascontiguousarray(values).view(np.uint16).reshape(-1, _PARTS)].sum(1, dtype=np.int64)


def _candidates(hashes: np.ndarray, motions: np.ndarray, flips: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of pairs that differ in at most ``flips`` bits of one part, and little in their motion."""
    masks = [sum(1 << bit for bit in chosen) for n in range(flips + 1) for chosen in combinations(range(_PART), n)]
    margin = (_SAME_MOTION + 1e-6) / 2
    for part in range(_PARTS):
        keys = (hashes >> np.uint64(_PART * part) & np.uint64((1 << _PART) - 1)).astype(np.int64)
        places = keys + motions / 2  # the key before the decimal point, the motion after it
        order = np.argsort(places, kind="stable")
        keys, places = keys[order], places[order]
        offsets = places - keys
        for mask in masks:
            others = keys ^ mask
            begin = np.searchsorted(places, others + (offsets - margin), "left")
            end = np.searchsorted(places, others + (offsets + margin), "right")
            if mask:  # count each pair once
                end = np.where(keys < others, end, begin)
            else:
                begin = np.maximum(begin, np.arange(1, len(keys) + 1))
            for first, second in _expand(begin, np.maximum(end, begin)):
                yield order[first], order[second]


def _expand(begin: np.ndarray, end: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs (i, j) with j in [begin[i], end[i]), some million at a time."""
    sums = np.concatenate([[0], np.cumsum(end - begin)])
    start = 0
    while start < len(begin):
        stop = max(int(np.searchsorted(sums, sums[start] + _PAIRS, "right")) - 1, start + 1)
        counts = np.diff(sums[start : stop + 1])
        first = np.repeat(np.arange(start, stop), counts)
        if len(first):
            yield first, np.arange(len(first)) - np.repeat(sums[start:stop] - sums[start], counts) + begin[first]
        start = stop


def _merge(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Merge the groups of each pair."""
    from scipy.sparse import coo_array  # the import takes a second, and only this function needs it
    from scipy.sparse.csgraph import connected_components

    size = (len(groups),) * 2
    edges = coo_array((np.ones(len(first), bool), (groups[first], groups[second])), size)
    return connected_components(edges, directed=False)[1].astype(np.int64)[groups]
