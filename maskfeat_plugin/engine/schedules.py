"""Adjustment of learning-rate schedules to the length of a training."""

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import BaseLoop

# Settings of mmengine's schedulers that count steps. A step is an epoch or an iteration.
_OWN_STEPS = ("end", "T_max", "step_size", "total_steps", "milestones")
_STEPS = ("begin", *_OWN_STEPS)
# With this setting, mmengine multiplies the scheduler's steps by the number of iterations of an epoch
_CONVERT = "convert_to_iter_based"
# A LinearLR with a single step would stay at its start_factor
_SHORTEST = 2


def fit_schedules(loop: BaseLoop) -> None:
    """Shorten the schedules of a runner whose last part would begin after the end of training.

    If ``begin`` is the only number of steps of a part, the part lasts until the end of training. mmengine refuses such
    a part if it begins at or after the end, for example after five epochs of warm-up in a training of three epochs.
    This function then shortens all parts by the same factor, so that the last part begins in the middle of the
    training. If the training has too few steps for that, the schedule is left out and the learning rate stays constant.
    Both cases are logged. Schedules that mmengine can build are not changed. Schedules of a fixed length are not
    changed either: mmengine refuses them.

    Args:
        loop (BaseLoop): The loop of training. Its runner's ``param_schedulers`` change, unless they are built already.
    """
    runner = loop.runner
    for name, parts in _groups(runner.param_schedulers):
        late = [part for part in parts if _begins_late(part, loop)]
        share = max((part["begin"] / _length(part, loop) for part in late), default=math.inf)
        if not math.isfinite(share) or any(key in part for part in late for key in _OWN_STEPS):
            continue
        fitted = [_scale(part, 0.5 / share if share >= 1 else 1, loop) for part in parts]
        change = "is shortened, and its last part begins in the middle of the training"
        if any(part["end"] - part.get("begin", 0) < _SHORTEST for part in fitted if "end" in part):
            fitted, change = [], "is left out, and the learning rate stays as it is"
        runner.param_schedulers = {**runner.param_schedulers, name: fitted} if name else fitted
        if share >= 1:  # otherwise only epochs were converted to iterations, for a loop that counts iterations
            _warn(
                f"param_scheduler{name and '.'}{name}: its last part would begin after the end of the training, which "
                f"has {loop.max_iters} iterations. The schedule {change}. Train longer, or set another param_scheduler."
            )


def warn_of_schedules(loop: BaseLoop) -> None:
    """Log each part of a schedule with its own ``end`` that begins or ends after the end of the training.

    Args:
        loop (BaseLoop): The loop of training, before the schedulers of its runner are built.
    """
    for name, parts in _groups(loop.runner.param_schedulers):
        for i, part in enumerate(parts):
            if "end" not in part:
                continue
            length, unit = _length(part, loop), "epoch" if part.get("by_epoch", True) else "iteration"
            key = f"param_scheduler{name and '.'}{name}[{i}] ({part.get('type')})"
            if part.get("begin", 0) >= length:
                _warn(f"{key} begins at {unit} {part['begin']}, {_describe_end(length, unit)}")
            elif "Linear" in str(part.get("type")) and part["end"] > length:
                _warn(f"{key} ends at {unit} {part['end']}, {_describe_end(length, unit)}")


def _describe_end(length: float, unit: str) -> str:
    return f"and the training ends at {unit} {length:g}. Train longer, or set another param_scheduler."


def _warn(message: str) -> None:
    print_log(message, "current", logging.WARNING)


def _groups(schedulers: Any) -> Iterator[tuple[str, list[dict]]]:
    """Yield the schedule of each optimizer, with the optimizer's name if there are several. Skip built schedules."""
    several = isinstance(schedulers, dict) and "type" not in schedulers
    for name, group in list(schedulers.items()) if several else [("", schedulers)]:
        parts = list(group) if isinstance(group, Sequence) else [group]
        if all(isinstance(part, dict) and _counts_steps(part) for part in parts):
            yield name, parts


def _counts_steps(part: dict) -> bool:
    return all(isinstance(part.get(name, 0), int | float) for name in ("begin", "end"))


def _length(part: dict, loop: BaseLoop) -> float:
    """Return the length of the training in the steps of a part of the schedule, at least 1 step."""
    if part.get(_CONVERT):  # a loop that counts iterations has a single epoch of any length
        return max(1, loop.max_iters) / max(1, len(loop.dataloader))
    return max(1, loop.max_epochs if part.get("by_epoch", True) else loop.max_iters)


def _begins_late(part: dict, loop: BaseLoop) -> bool:
    """Check whether mmengine would refuse a part, because it lasts until the end of training and begins after it."""
    end = loop.max_epochs if part.get("by_epoch", True) else loop.max_iters
    return "end" not in part and part.get("begin", 0) >= max(1, end)


def _scale(part: dict, factor: float, loop: BaseLoop) -> dict:
    """Return a part of the schedule with all its numbers of steps multiplied by a factor."""
    part = {**part}
    if part.pop(_CONVERT, False):  # convert to iterations, because the factor can give a fraction of an epoch
        part["by_epoch"] = False
        factor *= len(loop.dataloader)
    for name in _STEPS:
        value, least = part.get(name), int(name not in ("begin", "end"))
        if isinstance(value, int | float):
            part[name] = max(least, round(value * factor))
        elif isinstance(value, list | tuple):
            part[name] = [max(least, round(step * factor)) for step in value]
    return part
