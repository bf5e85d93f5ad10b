"""The history of a training that was interrupted and went on: its runs joined by the iteration."""

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
        train (dict[str, Series]): Iterations (N,) and values (N,) of what is logged in training, by name.
        metrics (dict[str, Series]): The same of validation.
        starts (list[int]): Iterations at which a run took up the training of one before.
        done (int): Iterations that are known to be done.
        length (int, optional): Iterations of the whole training, if that is known.
        epoch_length (int, optional): Iterations of an epoch, if it counts epochs.
    """

    train: dict[str, Series]
    metrics: dict[str, Series]
    starts: list[int]
    done: int
    length: int | None
    epoch_length: int | None

    @property
    def is_finished(self) -> bool:
        """Whether the last iteration is done."""
        return self.length is not None and self.done >= self.length


def trainings_of(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that have trained."""
    return [run for run in runs if run.iterations is not None]


def join_runs(runs: Sequence[Run]) -> History:
    """Join the runs of a training; where two have trained the same iteration, the later one counts.

    Args:
        runs (Sequence[Run]): In the order of their starts. Those that have logged no training change nothing.

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
    """The last iteration of each run that no later one has trained again."""
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
