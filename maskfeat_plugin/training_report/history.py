"""History of a training that may have been interrupted and resumed: its runs joined by iteration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .config_text import section_of
from .damage import LARGEST, as_count
from .run_folders import Points, Run

Series = tuple[np.ndarray, np.ndarray]


@dataclass
class History:
    """A training from its first to its last iteration.

    Args:
        train (dict[str, Series]): Name of each value logged in training -> iterations (N,) and values (N,).
        metrics (dict[str, Series]): Name of each validation metric -> iterations (N,) and values (N,).
        starts (list[int]): Iterations at which a run resumed the training of an earlier run.
        done (int): Number of iterations that are known to be done.
        length (int, optional): Number of iterations of the whole training, if it is known.
        epoch_length (int, optional): Number of iterations of an epoch, if the training counts epochs.
    """

    train: dict[str, Series]
    metrics: dict[str, Series]
    starts: list[int]
    done: int
    length: int | None
    epoch_length: int | None

    @property
    def is_finished(self) -> bool:
        """True if the last iteration is done."""
        return self.length is not None and self.done >= self.length


def trainings_of(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that have trained, without tests."""
    return [run for run in runs if run.iterations is not None]


def join_runs(runs: Sequence[Run]) -> History:
    """Join the runs of a training. If two runs have trained the same iteration, the later run counts.

    Args:
        runs (Sequence[Run]): Runs in the order of their starts. Runs that have logged no training are ignored.

    Returns:
        History: The training.
    """
    trained = trainings_of(runs)
    limits = _limits([run.start for run in trained])
    kept = list(zip(trained, limits, strict=True))
    last = trained[-1] if trained else runs[-1]
    epoch_length = last.log.epoch_length
    return History(
        train=_join([(run.train, limit) for run, limit in kept]),
        metrics=_join([(run.metrics, limit) for run, limit in kept]),
        starts=[run.start for run in trained[1:] if run.start > 0],
        done=max([0, *(max(run.iterations[1], run.log.saved) for run in trained[-1:] if run.iterations)]),
        length=_length(last, epoch_length),
        epoch_length=epoch_length,
    )


def _limits(starts: Sequence[int]) -> list[float]:
    """Return for each run its last iteration that no later run has trained again."""
    limits = []
    limit = float("inf")
    for start in reversed(starts):
        limits.append(limit)
        limit = min(limit, start)
    return limits[::-1]


def _join(parts: Sequence[tuple[dict[str, Points], float]]) -> dict[str, Series]:
    joined: dict[str, list[Series]] = {}
    for series, limit in parts:
        for name, (iterations, values) in series.items():
            iterations, values = np.asarray(iterations), np.asarray(values, float)
            keep = iterations <= limit
            if keep.any():
                joined.setdefault(name, []).append((iterations[keep], values[keep]))
    return {
        name: (np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found]))
        for name, found in joined.items()
    }


def _length(run: Run, epoch_length: int | None) -> int | None:
    if run.log.length is not None:
        return run.log.length
    loop = section_of(run.settings, "train_cfg")
    iterations, epochs = (as_count(loop.get(name), 1) for name in ("max_iters", "max_epochs"))
    if iterations is not None:
        return iterations
    return min(epochs * epoch_length, LARGEST) if epochs and epoch_length else None
