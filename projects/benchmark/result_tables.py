"""Tables and files of measurements."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import mmaction
import mmengine
import mmpretrain
import torch

from maskfeat_plugin.errors import reading
from maskfeat_plugin.files import writing
from maskfeat_plugin.running.versions import processor_name

from .costs import Cost
from .device_checks import DeviceCheck
from .measuring import Measurement


def format_table(rows: Sequence[Measurement]) -> str:
    """Format comparisons as a Markdown table.

    Args:
        rows (Sequence[Measurement]): The measurements.

    Returns:
        str: The table, with times in milliseconds and peak memory in megabytes of 2**20 bytes.
    """
    lines = [
        "| work | here, ms | peer, ms | times faster | here, MB | peer, MB | times less | peer |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        less = "-"
        if row.ours_memory and row.theirs_memory:
            less = f"{row.theirs_memory / row.ours_memory:.1f}"
        lines.append(
            f"| {row.job} | {row.ours * 1e3:.1f} | {row.theirs * 1e3:.1f} | {row.theirs / row.ours:.2f} | "
            f"{_megabytes(row.ours_memory)} | {_megabytes(row.theirs_memory)} | {less} | {row.peer} |"
        )
    return "\n".join(lines)


def format_costs(rows: Sequence[Cost]) -> str:
    """Format the costs of training steps as a Markdown table.

    Args:
        rows (Sequence[Cost]): The measurements.

    Returns:
        str: The table.
    """
    lines = ["| training step of | varied | | ms | ms a sample | MB |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row.model} | {row.what} | {row.value} | {row.seconds * 1e3:.0f} | {row.seconds * 1e3 / row.samples:.0f} | "
        f"{_megabytes(row.memory)} |"
        for row in rows
    ]
    return "\n".join(lines)


def format_changes(before: dict, rows: Sequence[Measurement]) -> str:
    """Format a comparison of this run with an earlier run.

    Args:
        before (dict): The earlier run, from :func:`read_run`.
        rows (Sequence[Measurement]): Measurements of this run.

    Returns:
        str: A Markdown table with a row for each job that both runs have. Each run has a ratio against the peer in the
        same run. These ratios can be compared even if the machines differ.
    """
    earlier = {row["job"]: Measurement(**row) for row in before["rows"]}
    lines = [
        f"Before: {before['machine']}",
        "",
        "| work | before, ms | now, ms | times faster | against the peer, before | now |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for now in rows:
        old = earlier.get(now.job)
        if old is not None:
            lines.append(
                f"| {now.job} | {old.ours * 1e3:.1f} | {now.ours * 1e3:.1f} | {old.ours / now.ours:.2f} | "
                f"{old.theirs / old.ours:.2f} | {now.theirs / now.ours:.2f} |"
            )
    return "\n".join(lines)


def write_run(
    path: Path, machine: str, repeats: int, rows: Sequence[Measurement], checks: Sequence[DeviceCheck] = ()
) -> None:
    """Write a run as JSON, atomically.

    Args:
        path (Path): File to write.
        machine (str): Description from :func:`describe_machine`.
        repeats (int): Number of runs behind each median.
        rows (Sequence[Measurement]): The measurements, in seconds and megabytes.
        checks (Sequence[DeviceCheck]): Checks of the device before the measurements. Defaults to none.
    """
    content: dict = dict(machine=machine, repeats=repeats, rows=[asdict(row) for row in rows])
    if checks:
        content["checks"] = [asdict(check) for check in checks]
    with writing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def read_run(path: Path) -> dict:
    """Read a run that :func:`write_run` wrote.

    Args:
        path (Path): The file.

    Returns:
        dict: ``machine`` (str), ``repeats`` (int) and ``rows`` (list[dict]), arguments of :class:`Measurement`.

    Raises:
        ConfigError: If the file is missing or holds something else.
    """
    with reading(f"--against {path}:", "give a file that --json wrote"):
        run = json.loads(path.read_text())
        for row in run["rows"]:
            Measurement(**row)
        return dict(machine=str(run["machine"]), repeats=run["repeats"], rows=run["rows"])


def describe_machine(device: torch.device) -> str:
    """Describe the device, the number of threads, and the versions behind the times.

    Args:
        device (torch.device): Device of the measurements.

    Returns:
        str: The description, in one line.
    """
    if device.type == "cuda":
        name, precision = torch.cuda.get_device_name(device), "models in bfloat16"
    else:
        name, precision = f"{processor_name()}, {torch.get_num_threads()} threads", "float32"
    packages = (torch, mmengine, mmpretrain, mmaction)
    versions = ", ".join(f"{package.__name__} {package.__version__}" for package in packages)
    return f"{name}, {precision}, {versions}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
