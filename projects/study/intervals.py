"""Confidence intervals of differences between settings."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t

from .planned_runs import Run


class Interval(NamedTuple):
    """Mean difference and its 95 % confidence interval of Student's t.

    Attributes:
        mean (float): Mean difference in points.
        low (float): Lower end of the interval.
        high (float): Upper end of the interval.
        pairs (int): Number of differences.
    """

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def paired_differences(runs: Sequence[Run], others: Sequence[Run]) -> list[float]:
    """Return the differences of the scores for the seeds that both settings have.

    Args:
        runs (Sequence[Run]): Runs of a setting.
        others (Sequence[Run]): Runs of the setting that is subtracted.

    Returns:
        list[float]: Differences in points.
    """
    scores = {run.seed: result["score"] for run in others if (result := run.result) is not None}
    return [r["score"] - scores[run.seed] for run in runs if (r := run.result) is not None and run.seed in scores]


def interval(differences: Sequence[float]) -> Interval:
    """Compute the confidence interval of a mean.

    Args:
        differences (Sequence[float]): At least two values.

    Returns:
        Interval: The mean and the interval.

    Raises:
        statistics.StatisticsError: If there are fewer than two values.
    """
    count = len(differences)
    mean, error = statistics.mean(differences), statistics.stdev(differences) / count**0.5
    half = float(t.ppf(0.975, count - 1)) * error
    return Interval(mean, mean - half, mean + half, count)
