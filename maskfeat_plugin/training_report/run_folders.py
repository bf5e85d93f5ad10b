"""Reader of the runs in a work directory. A training writes a run each time it is started."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskfeat_plugin.errors import ConfigError

from .config_text import read_settings, section_of
from .damage import LARGEST, as_count, as_number, left_out
from .text_log import TextLog, read_text_log

Points = tuple[list[int], list[float]]
_COUNTERS = ("iter", "step", "epoch")


@dataclass
class Run:
    """Content of the folder that one start of a training, or a test, has written.

    Args:
        folder (Path): The folder, named by the time of the start.
        train (dict[str, Points]): Name of each value logged in training -> iterations and values.
        metrics (dict[str, Points]): Name of each validation metric -> iterations and values.
        test (dict[str, Any]): Metrics of a test.
        log (TextLog): The text log.
        config (str): Text of the config of the run.
        settings (dict[str, Any]): Settings of the config.
        unreadable (int): Number of lines with values that could not be read, such as the last line of a training that
            was killed.
    """

    folder: Path
    train: dict[str, Points]
    metrics: dict[str, Points]
    test: dict[str, Any]
    log: TextLog
    config: str
    settings: dict[str, Any]
    unreadable: int

    @property
    def iterations(self) -> tuple[int, int] | None:
        """The first and the last logged iteration; None if no iteration is logged."""
        ends = [(iterations[0], iterations[-1]) for iterations, _ in self.train.values()]
        return (min(a for a, _ in ends), max(b for _, b in ends)) if ends else None

    @property
    def start(self) -> int:
        """Number of iterations that earlier runs had done before this run began."""
        if self.log.resumed is not None:
            return self.log.resumed
        # without the text log: a new training logs first after one interval, so a run with a later first log continues
        # another run
        first = self.iterations[0] if self.iterations else 0
        logger = section_of(section_of(self.settings, "default_hooks"), "logger")
        interval = as_count(logger.get("interval"), 1) or 10
        return first - interval if first > interval else 0


def read_runs(work_dir: Path) -> list[Run]:
    """Read the runs of trainings and tests in a work directory, in the order of their starts.

    Args:
        work_dir (Path): The work directory (``--work-dir``).

    Returns:
        list[Run]: At least one run.

    Raises:
        ConfigError: If there is no run.
    """
    if not work_dir.is_dir():
        what = "is a file" if work_dir.exists() else "does not exist"
        raise ConfigError(
            f"{work_dir} {what}. Give the work directory of a training, the --work-dir of maskfeat train."
        )
    folders = _run_folders(work_dir)
    if not folders:
        raise ConfigError(f"{work_dir} holds no run of a training: {_hint(work_dir)}.")
    return [_read_run(folder, work_dir) for folder in folders]


def _run_folders(work_dir: Path) -> list[Path]:
    try:
        children = sorted(path for path in work_dir.iterdir() if path.is_dir())
    except OSError as error:
        raise ConfigError(f"{work_dir} cannot be read: {error.strerror}.") from error
    return [path for path in children if (path / f"{path.name}.log").is_file() or (path / "vis_data").is_dir()]


def _hint(work_dir: Path) -> str:
    """Return advice for a folder without runs."""
    if (work_dir / "vis_data").is_dir() or (work_dir / "scalars.json").is_file():
        is_run = (work_dir / "vis_data").is_dir()
        return f"it is a part of a run; give its work directory, {_above(work_dir, 1 if is_run else 2)}"
    below = sorted(path for path in work_dir.iterdir() if path.is_dir() and _run_folders(path))
    if below:
        return f"but its folders {', '.join(path.name for path in below[:5])} do; give one of them"
    return "a run is a folder that is named by a time and holds a .log and vis_data/scalars.json"


def _above(folder: Path, levels: int) -> Path:
    """Return the folder a number of levels above; the path may be relative, such as "."."""
    return (folder if len(folder.parents) >= levels else folder.resolve()).parents[levels - 1]


def _read_run(folder: Path, work_dir: Path) -> Run:
    log = read_text_log(folder / f"{folder.name}.log")
    data = folder / "vis_data"
    configs = [path for path in (data / "config.py", *sorted(work_dir.glob("*.py"))) if path.is_file()]
    config, settings = "", {}
    for path in configs[:1]:
        with left_out(path):
            config = path.read_text(encoding="utf-8", errors="replace")
            settings = read_settings(config, path)
    run = Run(folder, {}, {}, _read_test(folder / f"{folder.name}.json"), log, config, settings, 0)
    with left_out(data / "scalars.json"):
        for line in _lines(data / "scalars.json"):
            values = _parse(line)
            if values is None:
                run.unreadable += 1
            elif "iter" in values:
                _append(run.train, values["iter"], values)
            else:
                _append(run.metrics, _iteration_of_metrics(run, values), values)
    for name in ("data_time", "time"):
        run.metrics.pop(name, None)
    return run


def _lines(path: Path) -> Iterator[str]:
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


def _parse(line: str) -> dict[str, Any] | None:
    """Return the numbers of a line, None if the line is damaged."""
    try:
        values = json.loads(line)
    except Exception:  # a damaged line may hold anything
        return None
    if not isinstance(values, dict) or None in (as_count(values.get("step")), as_count(values.get("iter", 0))):
        return None
    is_beyond = any(isinstance(value, int) and as_number(value) is None for value in values.values())
    return None if is_beyond else values


def _append(series: dict[str, Points], iteration: int, values: dict[str, Any]) -> None:
    for name, value in values.items():
        number = as_number(value)
        if name not in _COUNTERS and number is not None:
            iterations, numbers = series.setdefault(name, ([], []))
            iterations.append(iteration)
            numbers.append(number)


def _iteration_of_metrics(run: Run, values: dict[str, Any]) -> int:
    """Return the iteration at which metrics were measured.

    mmengine numbers validations by the epoch, which is 0 in trainings that count iterations. Other hooks number them by
    the iteration.
    """
    last = run.iterations[1] if run.iterations else run.start
    step = values["step"]
    if "data_time" not in values or step >= max(last, 1):  # from another hook, or numbered by iterations
        return step
    if run.log.epoch_length:
        return min(max(step * run.log.epoch_length, last), LARGEST)
    loop = section_of(run.settings, "train_cfg")
    interval = as_count(loop.get("val_interval", 1), 1)
    if "max_iters" in loop and interval is not None:
        return min(-(-last // interval) * interval, LARGEST)  # the last step before the validation may not be logged
    return last


def _read_test(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    metrics = None
    with left_out(path, "holds no metrics"):
        metrics = json.loads(path.read_text(encoding="utf-8"))
    numbers = {name: as_number(value) for name, value in (metrics.items() if isinstance(metrics, dict) else ())}
    return {k: v for k, v in numbers.items() if v is not None and k not in ("data_time", "time")}
