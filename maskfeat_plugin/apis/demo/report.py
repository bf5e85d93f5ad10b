"""The demo's table and page."""

import os
import platform
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch

import maskfeat_plugin
from maskfeat_plugin.visualization import Curve, Picture, Table, make_panel, write_report

from .pictures import READERS, draw_findings
from .tasks import DATA_ROOT, LIVE, PRETRAININGS, SCRATCH, SEEDS, SHIPPED, TASKS
from .train import predict

SHOWN = {"image": (0, 1, 2, 3), "video": (0, 5, 11)}
FOUND = (0, 7, 14)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _scores(results: Mapping[str, dict]) -> dict[str, dict[str, list[float]]]:
    """Task -> start -> percentages, in the order of the tasks."""
    scores = {name: of_task for part in results.values() for name, of_task in part["scores"].items()}
    return {name: scores[name] for name in TASKS if name in scores}


def shipped_steps(name: str) -> int:
    """Training steps of the shipped weights of a pre-training."""
    return torch.load(PRETRAININGS[name].shipped_weights, weights_only=True)["meta"]["steps"]


def describe_starts(results: Mapping[str, dict]) -> str:
    """How long each start was pre-trained, in a sentence."""
    live = " and ".join(f"{part['pretraining']['max_iters']} steps ({name})" for name, part in results.items())
    text = f"Pre-trained live: {live}."
    if any(SHIPPED in starts for starts in _scores(results).values()):
        shipped = " and ".join(f"{shipped_steps(name)} steps ({name})" for name in results)
        text += f" Shipped weights: {shipped}, by `make demo-weights`."
    return text


def _rows(results: Mapping[str, dict]) -> tuple[list[str], list[list[str]]]:
    scores = _scores(results)
    starts = list(next(iter(scores.values())))
    columns = ["task", "fine-tuned by", "measure", *starts]
    rows = [
        [
            TASKS[name].title,
            f"{TASKS[name].framework}, {TASKS[name].labels} labels",
            TASKS[name].measure,
            *(_spread(of_task[start]) for start in starts),
        ]
        for name, of_task in scores.items()
    ]
    return columns, rows


def format_table(results: Mapping[str, dict]) -> str:
    """The demo's result as a Markdown table: percentages, mean and standard deviation over the seeds.

    Args:
        results (Mapping[str, dict]): Pre-training name -> outcome of :func:`run_part`.

    Returns:
        str: The table, a line a task.
    """
    columns, rows = _rows(results)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, ["-" * w for w in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def verdict(results: Mapping[str, dict]) -> list[str]:
    """What the numbers say, a sentence a task and start."""
    lines = []
    for name, of_task in _scores(results).items():
        scratch = statistics.mean(of_task[SCRATCH])
        for start, values in of_task.items():
            if start != SCRATCH:
                gain = statistics.mean(values) - scratch
                lines.append(f"{TASKS[name].title} {start}: {gain:+.1f} points against from scratch.")
    return lines


def make_report(results: Mapping[str, dict], work_dir: Path, seconds: float, data_root: Path = DATA_ROOT) -> Path:
    """Write the page, ``report.html``.

    Args:
        results (Mapping[str, dict]): Pre-training name -> outcome of :func:`run_part`.
        work_dir (Path): Where the runs have written, and the page goes.
        seconds (float): How long the demo took.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        Path: The file.
    """
    columns, rows = _rows(results)
    seeds = Table(
        "Every run",
        ["task", "start", *(f"seed {seed}" for seed in SEEDS)],
        [
            [TASKS[name].title, start, *(f"{v:.1f}" for v in values)]
            for name, of_task in _scores(results).items()
            for start, values in of_task.items()
        ],
        caption="On the test split, in percent. A seed chooses the labelled samples too.",
    )
    table = Table(
        "Result",
        columns,
        rows,
        caption="On the test split, in percent, mean ± standard deviation over 3 seeds, all starts with the same "
        f"fine-tuning budget. {describe_starts(results)} " + " ".join(verdict(results)),
    )
    curves = [
        Curve(
            f"Pre-training: {name}",
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
    return write_report(
        work_dir / "report.html",
        title="MaskFeat on MovingDigits",
        intro="Small vision transformers pre-trained without labels by predicting the HOG of what is hidden, then "
        "fine-tuned on few labels by mmpretrain, mmaction2 and mmdet, against training from scratch.",
        tables=[table, seeds],
        curves=curves,
        panels=make_panels(results, data_root) + make_findings(results, work_dir, data_root),
        environment=environment(seconds),
        notes=[
            "Live: the pre-training that this very run has done. Shipped: weights of the same model and recipe, "
            "trained for longer by `make demo-weights` and kept in configs/demo/weights.",
            "Train, validation and test splits hold different digit images.",
        ],
    )


def make_panels(results: Mapping[str, dict], data_root: Path = DATA_ROOT) -> list[Picture]:
    """Masked input, predicted and true HOG and original for samples of the test split."""
    pictures = []
    for name, result in results.items():
        pretraining = PRETRAININGS[name]
        models = {LIVE: result["pretraining"]["checkpoint"]}
        if pretraining.shipped_weights.exists():
            models = {SHIPPED: str(pretraining.shipped_weights), **models}
        for start, checkpoint in models.items():
            for index, found in zip(SHOWN[name], predict(pretraining, checkpoint, SHOWN[name], data_root), strict=True):
                panel = make_panel(**found, mean=[114.75] * 3, std=[57.375] * 3, cell_size=4)
                pictures.append(
                    Picture(f"{name}, test sample {index}, {start}", panel, "What the model has not seen is grey.")
                )
    return pictures


def make_findings(results: Mapping[str, dict], work_dir: Path, data_root: Path = DATA_ROOT) -> list[Picture]:
    """What the detectors find, of the best start that there is, for samples of the test split."""
    return [
        picture
        for name, starts in _scores(results).items()
        if name in READERS
        for picture in draw_findings(TASKS[name], work_dir, list(starts)[-1], FOUND, data_root)
    ]


def environment(seconds: float) -> dict[str, str]:
    """Where the numbers come from."""
    import mmaction
    import mmdet
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
        "mmdet": mmdet.__version__,
        "maskfeat_plugin": maskfeat_plugin.__version__,
    }
