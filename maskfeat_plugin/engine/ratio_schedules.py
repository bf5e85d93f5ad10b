"""How a mask ratio changes during training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class ConstantRatio:
    """The ratio that the pipeline's mask generator begins with, to the end."""

    def values(self) -> Sequence[float]:
        """Ratios, other than the first, that it leads to."""
        return ()

    def check(self, total: int) -> None:
        """Nothing can be wrong with it."""

    def __call__(self, first: float, step: int, total: int) -> float:
        """The ratio of a step, see :class:`LinearRatio`."""
        return first


@dataclass(frozen=True)
class LinearRatio:
    """From the first ratio to another in even steps.

    Args:
        ratio (float): Ratio at the end.
        begin (int): Step, an epoch or an iteration counted from 0, from which on it changes. Defaults to 0.
        end (int, optional): Step after the one that has ``ratio``. Defaults to None, the end of training.
    """

    ratio: float
    begin: int = 0
    end: int | None = None

    def values(self) -> Sequence[float]:
        """Ratios, other than the first, that it leads to."""
        return (self.ratio,)

    def __post_init__(self) -> None:
        _check_steps("begin", [self.begin])
        _check_steps("end", [] if self.end is None else [self.end])

    def check(self, total: int) -> None:
        """Refuse a beginning and an end that are no part of the training, or too close to change anything in between.

        Args:
            total (int): Steps of the training.

        Raises:
            ValueError: If they are.
        """
        if not self.begin < self._last(total) < total:
            raise ValueError(
                f"begin={self.begin} and end={self.end} have to be two or more apart, within the training of {total}"
            )

    def __call__(self, first: float, step: int, total: int) -> float:
        """The ratio of a step.

        Args:
            first (float): Ratio at the beginning.
            step (int): The step, counted from 0.
            total (int): Steps of the training.

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
    """From the first ratio to another along half a cosine: slowly at both ends. Arguments of :class:`LinearRatio`."""

    def _ease(self, progress: float) -> float:
        return (1 - math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class StepRatio:
    """Another ratio from each milestone on.

    Args:
        milestones (Sequence[int]): Steps, rising.
        ratios (Sequence[float]): Ratio from each of them on.
    """

    milestones: Sequence[int]
    ratios: Sequence[float]

    def __post_init__(self) -> None:
        _check_steps("milestones", self.milestones)
        rising = all(a < b for a, b in zip(self.milestones[:-1], self.milestones[1:], strict=True))
        if not self.milestones or len(self.milestones) != len(self.ratios) or not rising:
            raise ValueError(
                f"milestones={list(self.milestones)} have to rise, with a ratio each, got ratios={list(self.ratios)}"
            )

    def values(self) -> Sequence[float]:
        """Ratios, other than the first, that it leads to."""
        return tuple(self.ratios)

    def check(self, total: int) -> None:
        """Refuse a milestone after the end.

        Args:
            total (int): Steps of the training.

        Raises:
            ValueError: If there is one.
        """
        if self.milestones[-1] >= total:
            raise ValueError(f"milestones={list(self.milestones)} go beyond the training's {total} steps")

    def __call__(self, first: float, step: int, total: int) -> float:
        """The ratio of a step, see :class:`LinearRatio`."""
        for milestone, ratio in zip(reversed(self.milestones), reversed(self.ratios), strict=True):
            if step >= milestone:
                return ratio
        return first


SCHEDULES: dict[str, Any] = dict(constant=ConstantRatio, linear=LinearRatio, cosine=CosineRatio, steps=StepRatio)
RatioSchedule = ConstantRatio | LinearRatio | StepRatio


def build_schedule(config: dict) -> RatioSchedule:
    """Build a schedule.

    Args:
        config (dict): ``type``, one of ``SCHEDULES``, and its arguments.

    Returns:
        RatioSchedule: The schedule.

    Raises:
        ValueError: If the type is unknown or the arguments are not its own.
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
