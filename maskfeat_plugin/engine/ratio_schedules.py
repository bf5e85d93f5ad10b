"""Schedules of the mask ratio during training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class ConstantRatio:
    """Schedule that keeps the first ratio, the one set in the pipeline's mask generator."""

    def values(self) -> Sequence[float]:
        """Return the ratios of this schedule other than the first."""
        return ()

    def check(self, total: int) -> None:
        """Check nothing: this schedule fits every training."""

    def __call__(self, first: float, step: int, total: int) -> float:
        """Return the ratio of a step, see :class:`LinearRatio`."""
        return first


@dataclass(frozen=True)
class LinearRatio:
    """Schedule that changes the ratio from the first to another in equal steps.

    Args:
        ratio (float): The ratio at the end.
        begin (int): The step at which the change begins. A step is an epoch or an iteration, counted from 0. Defaults
            to 0.
        end (int, optional): The step after the first one with ``ratio``. Defaults to None, the end of training.
    """

    ratio: float
    begin: int = 0
    end: int | None = None

    def values(self) -> Sequence[float]:
        """Return the ratios of this schedule other than the first."""
        return (self.ratio,)

    def __post_init__(self) -> None:
        _check_steps("begin", [self.begin])
        _check_steps("end", [] if self.end is None else [self.end])

    def check(self, total: int) -> None:
        """Check that ``begin`` and ``end`` are within the training and leave at least one step between them.

        Args:
            total (int): Number of steps of the training.

        Raises:
            ValueError: If they are not.
        """
        if not self.begin < self._last(total) < total:
            raise ValueError(
                f"begin={self.begin} and end={self.end} have to be two or more apart, within the training of {total}"
            )

    def __call__(self, first: float, step: int, total: int) -> float:
        """Return the ratio of a step.

        Args:
            first (float): The ratio at the beginning of training.
            step (int): The step, counted from 0.
            total (int): Number of steps of the training.

        Returns:
            float: The ratio.
        """
        progress = (step - self.begin) / (self._last(total) - self.begin)
        return first + (self.ratio - first) * self._ease(min(max(progress, 0.0), 1.0))

    def _last(self, total: int) -> int:
        return (total if self.end is None else self.end) - 1

    def _ease(self, progress: float) -> float:
        return progress


@dataclass(frozen=True)
class CosineRatio(LinearRatio):
    """Schedule along half a cosine, slow at both ends, from the first ratio to another. See :class:`LinearRatio`."""

    def _ease(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class StepRatio:
    """Schedule that sets another ratio at each milestone.

    Args:
        milestones (Sequence[int]): Steps, in ascending order.
        ratios (Sequence[float]): For each milestone, the ratio from that step on.
    """

    milestones: Sequence[int]
    ratios: Sequence[float]

    def __post_init__(self) -> None:
        _check_steps("milestones", self.milestones)
        rising = all(a < b for a, b in zip(self.milestones[:-1], self.milestones[1:], strict=True))
        if not self.milestones or len(self.milestones) != len(self.ratios) or not rising:
            raise ValueError(
                f"milestones={list(self.milestones)} have to rise, with one ratio for each, got "
                f"ratios={list(self.ratios)}"
            )

    def values(self) -> Sequence[float]:
        """Return the ratios of this schedule other than the first."""
        return tuple(self.ratios)

    def check(self, total: int) -> None:
        """Check that no milestone is after the end of training.

        Args:
            total (int): Number of steps of the training.

        Raises:
            ValueError: If one is.
        """
        if self.milestones[-1] >= total:
            raise ValueError(f"milestones={list(self.milestones)} go beyond the training's {total} steps")

    def __call__(self, first: float, step: int, total: int) -> float:
        """Return the ratio of a step, see :class:`LinearRatio`."""
        for milestone, ratio in zip(reversed(self.milestones), reversed(self.ratios), strict=True):
            if step >= milestone:
                return ratio
        return first


SCHEDULES: dict[str, Any] = dict(constant=ConstantRatio, linear=LinearRatio, cosine=CosineRatio, steps=StepRatio)
RatioSchedule = ConstantRatio | LinearRatio | StepRatio


def build_schedule(config: dict) -> RatioSchedule:
    """Build a schedule from a config.

    Args:
        config (dict): ``type``, a key of ``SCHEDULES``, and the arguments of the schedule.

    Returns:
        RatioSchedule: The schedule.

    Raises:
        ValueError: If the type is unknown, or if it does not have these arguments.
    """
    settings = dict(config)
    kind = settings.pop("type", None)
    if kind not in SCHEDULES:
        raise ValueError(f"schedule.type={kind!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    try:
        schedule = SCHEDULES[kind](**settings)
    except TypeError as error:
        names = ", ".join(field.name for field in fields(SCHEDULES[kind])) or "no arguments"
        raise ValueError(f"schedule of type {kind!r} takes {names}, got {settings}") from error
    for ratio in schedule.values():
        if not isinstance(ratio, int | float) or not 0 < ratio < 1:
            raise ValueError(f"schedule: the ratio {ratio!r} is outside (0, 1)")
    return schedule


def _check_steps(name: str, steps: Sequence[int]) -> None:
    if not isinstance(steps, Sequence) or not all(isinstance(step, int) and step >= 0 for step in steps):
        raise ValueError(f"schedule.{name} has to be counted in whole epochs or iterations from 0, got {steps!r}")
