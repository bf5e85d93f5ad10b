"""The demo's table and page."""

import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

import maskfeat_plugin
from maskfeat_plugin.visualization import Curve, Picture, Table, make_panel, write_report

from .tasks import DATA_ROOT, LIVE, SCRATCH, SHIPPED, TASKS
from .train import predict

SHOWN = {"digit": (0, 1, 2, 3), "motion": (0, 5, 11)}


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _starts(results: Mapping[str, dict]) -> list[str]:
    return list(next(iter(results.values()))["accuracy"])


def _start_label(start: str, results: Mapping[str, dict]) -> str:
    if start == SCRATCH:
        return "from scratch"
    if start == LIVE:
        steps = " and ".join(str(r["pretraining"]["max_iters"]) for r in results.values())
        return f"pre-trained live ({steps} steps)"
    steps = " and ".join(str(shipped_steps(name)) for name in results)
    return f"shipped weights ({steps} steps, `make demo-weights`)"


def shipped_steps(name: str) -> int:
    """Training steps of the shipped weights of a task."""
    return torch.load(TASKS[name].shipped_weights, weights_only=True)["meta"]["steps"]


def _rows(results: Mapping[str, dict]) -> tuple[list[str], list[list[str]]]:
    columns = ["start"] + [
        f"{TASKS[name].title} ({TASKS[name].framework}, {TASKS[name].labels} labels)" for name in results
    ]
    rows = [
        [_start_label(start, results)] + [_spread(r["accuracy"][start]) for r in results.values()]
        for start in _starts(results)
    ]
    return columns, rows


def format_table(results: Mapping[str, dict]) -> str:
    """The demo's result as a Markdown table: top-1 accuracy in percent, mean and standard deviation over the seeds.

    Args:
        results (Mapping[str, dict]): Task name -> outcome of :func:`run_task`.

    Returns:
        str: The table, a line a start.
    """
    columns, rows = _rows(results)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, ["-" * w for w in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def verdict(results: Mapping[str, dict]) -> list[str]:
    """What the numbers say, a sentence a task."""
    lines = []
    for name, result in results.items():
        scratch = statistics.mean(result["accuracy"][SCRATCH])
        for start in _starts(results):
            if start != SCRATCH:
                gain = statistics.mean(result["accuracy"][start]) - scratch
                lines.append(f"{TASKS[name].title} {start}: {gain:+.1f} points against from scratch.")
    return lines


def make_report(results: Mapping[str, dict], path: Path, seconds: float, data_root: Path = DATA_ROOT) -> Path:
    """Write the page.

    Args:
        results (Mapping[str, dict]): Task name -> outcome of :func:`run_task`.
        path (Path): The file.
        seconds (float): How long the demo took.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        Path: The file.
    """
    columns, rows = _rows(results)
    seeds = Table(
        "Every run",
        ["task", "start", *(f"seed {i}" for i in range(len(next(iter(results.values()))["accuracy"][SCRATCH])))],
        [
            [TASKS[name].title, start, *(f"{v:.1f}" for v in values)]
            for name, r in results.items()
            for start, values in r["accuracy"].items()
        ],
        caption="Top-1 accuracy on the test split in percent. A seed chooses the labelled samples too.",
    )
    table = Table(
        "Result",
        columns,
        rows,
        caption="Top-1 accuracy on the test split in percent, mean ± standard deviation over 3 seeds, all "
        "with the same fine-tuning budget. " + " ".join(verdict(results)),
    )
    curves = [
        Curve(
            f"Pre-training for: {TASKS[name].title}",
            "step",
            "HOG loss (mean squared error, mean of 50 steps)",
            {
                "MaskFeat": (r["pretraining"]["steps"], r["pretraining"]["loss"]),
                "predicting the mean target": (r["pretraining"]["steps"], r["pretraining"]["baseline"]),
            },
            dashed=("predicting the mean target",),
            caption="The live run. Below the dashed line the model has learned something of the input.",
        )
        for name, r in results.items()
    ]
    page = write_report(
        path,
        title="MaskFeat on MovingDigits",
        intro="Small vision transformers pre-trained without labels by predicting the HOG of what is hidden, then "
        "fine-tuned on few labels by mmpretrain and mmaction2, against training from scratch.",
        tables=[table, seeds],
        curves=curves,
        panels=make_panels(results, data_root),
        environment=environment(seconds),
        notes=[
            "Live: the pre-training that this very run has done. Shipped: weights of the same model and recipe, "
            f"trained for longer by `make demo-weights` and kept in {TASKS['digit'].shipped_weights.parent.name}/.",
            "Train, validation and test splits hold different digit images.",
        ],
    )
    return page


def make_panels(results: Mapping[str, dict], data_root: Path = DATA_ROOT) -> list[Picture]:
    """Masked input, predicted and true HOG and original for samples of the test split."""
    pictures = []
    for name, result in results.items():
        task = TASKS[name]
        models = {LIVE: result["pretraining"]["checkpoint"]}
        if SHIPPED in result["accuracy"]:
            models = {SHIPPED: str(task.shipped_weights), **models}
        for start, checkpoint in models.items():
            for index, found in zip(SHOWN[name], predict(task, checkpoint, SHOWN[name], data_root), strict=True):
                panel = make_panel(**found, mean=[114.75] * 3, std=[57.375] * 3, cell_size=4)
                pictures.append(
                    Picture(f"{task.name}, test sample {index}, {start}", panel, "What the model has not seen is grey.")
                )
    return pictures


def environment(seconds: float) -> dict[str, str]:
    """Where the numbers come from."""
    import mmaction
    import mmengine
    import mmpretrain

    return {
        "time": f"{seconds / 60:.1f} minutes",
        "cores": str(len(os.sched_getaffinity(0))),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mmengine": mmengine.__version__,
        "mmpretrain": mmpretrain.__version__,
        "mmaction2": mmaction.__version__,
        "maskfeat_plugin": maskfeat_plugin.__version__,
    }
