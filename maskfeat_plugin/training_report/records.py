"""Records of problems in a training: interruptions, bad files, losses that were not finite, warnings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskfeat_plugin.datasets.bad_file_list import LIST_NAME, parse_list
from maskfeat_plugin.visualization import Table, Text
from maskfeat_plugin.visualization.report.parts import Part

from .damage import left_out
from .history import History, trainings_of
from .run_folders import Run

_SHOWN = 50


def describe_runs(runs: Sequence[Run], history: History) -> Table:
    """Build a table of the runs: when each began, from which iteration it continued, and how it ended.

    Args:
        runs (Sequence[Run]): Runs in the order of their starts.
        history (History): The training.

    Returns:
        Table: The table, with one row for each run.
    """
    trained = trainings_of(runs)
    rows = []
    for run in runs:
        begin, end = run.log.begin, run.log.end
        logged = f"{run.iterations[0]} to {run.iterations[1]}" if run.iterations else "none"
        rows.append(
            [
                run.folder.name,
                str(begin or ""),
                "the beginning" if run.start == 0 else f"iteration {run.start}",
                logged,
                str(end or ""),
                _describe_end(run, run is runs[-1], bool(trained) and run is trained[-1], history),
            ]
        )
    columns = ["run", "started", "from", "logged iterations", "last entry of its log", "end"]
    caption = "If two runs have trained the same iterations, the charts show the later run."
    return Table("Runs", columns, rows, caption if len(trained) > 1 else "")


def _describe_end(run: Run, is_last: bool, is_last_trained: bool, history: History) -> str:
    if run.test:
        return "a test"
    if run.log.terminated:
        return f"told to end ({run.log.terminated.partition(':')[0]}), checkpoint saved"
    if is_last_trained and history.is_finished:
        return "finished"
    if not is_last:
        return "interrupted" if run.iterations else "before its first log of training"
    return "no end in the log: it is running, or was interrupted"


def find_records(work_dir: Path, runs: Sequence[Run]) -> list[Part]:
    """Find the bad files, the losses that were not finite, and the warnings of a training.

    Args:
        work_dir (Path): Work directory of the training.
        runs (Sequence[Run]): The runs.

    Returns:
        list[Part]: Tables and texts, only for problems that exist.
    """
    parts: list[Part] = []
    if bad := _bad_files(work_dir, runs):
        caption = f"The last run left out these files. All of them are in {LIST_NAME}."
        more = f" {len(bad) - _SHOWN} more are not shown." if len(bad) > _SHOWN else ""
        title = f"Files that cannot be read: {len(bad)}"
        parts.append(Table(title, ["file", "reason"], bad[:_SHOWN], caption + more))
    if losses := _non_finite(work_dir):
        columns = ["iteration", "process", "losses", "norm of the gradients", "action", "files"]
        parts.append(
            Table(
                f"Losses and gradients that are not finite: {len(losses)}",
                columns,
                losses[:_SHOWN],
                "The weights are kept as they were before the step. The batches are in the folder non_finite.",
            )
        )
    for run in runs:
        if run.log.warnings:
            title = f"Warnings of the run {run.folder.name}: {len(run.log.warnings)}"
            parts.append(Text(title, "\n".join(run.log.warnings[-_SHOWN:])))
    return parts


def _bad_files(work_dir: Path, runs: Sequence[Run]) -> list[list[str]]:
    """Return path and reason of each bad file, from the list of the tool or from the list of the last run."""
    for path in (work_dir / LIST_NAME, *(run.folder / LIST_NAME for run in reversed(runs))):
        if path.is_file():
            listed = parse_list(path.read_text(encoding="utf-8", errors="replace"))
            return [[name, file.reason] for name, file in listed.items()]
    return []


def _non_finite(work_dir: Path) -> list[list[str]]:
    rows = []
    for path in (work_dir / "non_finite").glob("iter_*/report.json"):
        with left_out(path, "holds no record of a loss"):
            rows.append(_row(json.loads(path.read_text(encoding="utf-8"))))
    return sorted(rows, key=lambda row: (row[0], row[1]))


def _row(report: dict[str, Any]) -> list[Any]:
    losses = ", ".join(f"{name}: {value}" for name, value in (report.get("losses") or {}).items())
    files = [str(sample.get("file") or f"sample {sample.get('index')}") for sample in report.get("samples") or ()]
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    norm, numbers = report.get("grad_norm"), [report["iteration"], report.get("rank", 0)]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"iteration and rank are {numbers}")
    return [
        *numbers,
        losses,
        "" if norm is None else norm,
        report.get("action", ""),
        ", ".join(files[:4]) + more,
    ]
