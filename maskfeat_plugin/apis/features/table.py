"""Table of the features of samples, with their names, labels and times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

UNKNOWN = -1
"""The label of a sample whose class is not known."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of samples, in order.

    Args:
        names (Sequence[str]): Files of the N samples.
        labels (np.ndarray): Classes, int64 (N,), :data:`UNKNOWN` if not known.
        features (np.ndarray): float32 or float16 (N, C), or (N, L, C) for the features of every token.
        times (np.ndarray, optional): float64 (N, 2), seconds at which the samples begin and end in their files; None
            if the samples are whole files. Defaults to None.
        origin (Mapping[str, str], optional): Config and checkpoint of the features and their digests; empty in files
            of earlier versions.
    """

    names: Sequence[str]
    labels: np.ndarray
    features: np.ndarray
    times: np.ndarray | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "FeatureTable":
        """Return a table of some of the rows.

        Args:
            rows (np.ndarray): Numbers of the rows.
        """
        times = None if self.times is None else self.times[rows]
        names = [self.names[row] for row in rows]
        return FeatureTable(names, self.labels[rows], self.features[rows], times, self.origin)


def join_tables(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Join tables of the same kind.

    Args:
        tables (Sequence[FeatureTable]): At least one table; the first gives the origin.
    """
    return FeatureTable(
        [name for table in tables for name in table.names],
        np.concatenate([table.labels for table in tables]),
        np.concatenate([table.features for table in tables]),
        None if tables[0].times is None else np.concatenate([table.times for table in tables]),
        tables[0].origin,
    )
