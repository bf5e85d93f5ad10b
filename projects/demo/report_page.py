"""Table and page of the demo. The page may be complete, or show a demo that is still running."""

import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

import maskfeat_plugin
from maskfeat_plugin.machine import usable_cores
from maskfeat_plugin.visualization import Curve, Facts, Folded, Notes, Picture, Section, Table, strip, write_report
from maskfeat_plugin.visualization.report.parts import Part

from .chosen_samples import choose_different, read_digits
from .pictures import LEAST_SCORE, READERS, draw_findings
from .tasks import DATA_ROOT, LIVE, PRETRAININGS, SCRATCH, SHIPPED, TASKS, Plan, Task
from .train import draw_predictions

# Numbers of samples of different classes; the page shows the first one and folds the others
SHOWN = {"image": 4, "video": 3}
FOUND = 3

INTRO = (
    "First, a model learns without labels to predict the edges in masked parts of pictures and clips. Then it needs "
    "few labels for the tasks in the table."
)
METHOD = (
    "MaskFeat masks a part of a picture, and a model predicts the edges in this part: their strength and direction, "
    "not the colours. This needs no labels, because every picture and every clip contains the answer. A model that "
    "predicts well has learned something about shapes and motion."
)
PREDICTIONS = (
    "These digits were not used in any training. Each stroke shows the direction of the edges in a small square of the "
    "picture; a brighter stroke means stronger edges (HOG, a histogram of oriented gradients). Amber strokes are the "
    "model's predictions for masked parts. Compare them with the true strokes."
)
ONE_SEED = (
    "This is one seed for the labelled samples and the training, so a difference of a few points may be chance. "
    "`make demo-full` pre-trains for longer, repeats each fine-tuning with three seeds, and compares with training "
    "from scratch and with shipped weights."
)
FINDINGS = (
    "Frames of the test split with the found boxes and the true boxes. The samples have different classes. In each "
    f"sample the model finds a box with a score above {LEAST_SCORE}, if there is such a sample."
)
RUNNING = (
    "This page is not complete: the demo has run for {minutes:.1f} minutes and is still running. Reload the page to "
    "see more."
)
NOTES = {
    LIVE: "Live: weights from the pre-training of this run.",
    SHIPPED: "Shipped: weights from a longer pre-training with the same model and recipe, in configs/demo/weights. "
    "`make demo-weights` trains them.",
}
SPLITS = "Train, validation and test splits hold different digit images."
# Titles of the panels, in the order of the page
LABELS = {
    "masked input": "1. Input of the model, masked parts are grey (masked input)",
    "prediction": "2. Predicted edges, in amber (predicted HOG)",
    "target": "3. True edges (true HOG)",
    "original": "4. The whole picture (original)",
}
KINDS = {"image": "Picture", "video": "Clip"}


def _spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _scores(results: Mapping[str, dict]) -> dict[str, dict[str, list[float]]]:
    """Return the scores in the order of the tasks: task -> start -> percentages."""
    scores = {name: of_task for part in results.values() for name, of_task in part["scores"].items()}
    return {name: scores[name] for name in TASKS if name in scores}


def shipped_steps(name: str) -> int:
    """Return the number of training steps of the shipped weights of a pre-training."""
    return torch.load(PRETRAININGS[name].shipped_weights, weights_only=True)["meta"]["steps"]


def describe_scores(plan: Plan) -> str:
    """Return a phrase about the numbers in the table."""
    seeds = len(plan.seeds)
    of = "one seed" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
    return f"On the test split, in percent, {of}"


def describe_starts(results: Mapping[str, dict]) -> str:
    """Describe the length of each start's pre-training in a sentence."""
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
    """Format the demo's results as a Markdown table: percentages, or mean and standard deviation over several seeds.

    Args:
        results (Mapping[str, dict]): Pre-training name -> outcome of :func:`run_part`.

    Returns:
        str: The table, with one line per task.
    """
    columns, rows = _rows(results)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [columns, ["-" * w for w in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def verdict(results: Mapping[str, dict], plan: Plan) -> list[str]:
    """Describe the numbers: a sentence per task and start, and a warning about chance if there is one seed."""
    lines = []
    for name, of_task in _scores(results).items():
        for start, values in of_task.items():
            if start != SCRATCH and SCRATCH in of_task:
                gain = statistics.mean(values) - statistics.mean(of_task[SCRATCH])
                lines.append(f"{TASKS[name].title} {start}: {gain:+.1f} points compared with training from scratch.")
    if len(plan.seeds) == 1:
        lines.append(ONE_SEED)
    return lines


def make_report(
    results: Mapping[str, dict],
    plan: Plan,
    tasks: Sequence[Task],
    work_dir: Path,
    seconds: float,
    data_root: Path = DATA_ROOT,
) -> Path:
    """Write the page, ``report.html``. While results are missing, it begins with a list of the finished parts.

    Args:
        results (Mapping[str, dict]): Pre-training name -> outcome of :func:`run_part`, up to now.
        plan (Plan): Size of the demo.
        tasks (Sequence[Task]): The tasks of the demo.
        work_dir (Path): Folder of the runs. The page is written there too.
        seconds (float): Duration of the demo, up to now.
        data_root (Path): Root of MovingDigits. Defaults to the demo's.

    Returns:
        Path: The file.
    """
    scores = _scores(results)
    running = any(task.name not in scores for task in tasks)
    done = [Facts("", list_progress(results, tasks))] if running else []
    findings = {} if running else make_findings(results, work_dir, data_root)
    predictions = make_panels(results, plan, data_root)
    tables = make_tables(results, plan) if scores else []
    folded: dict[str, Sequence[Part]] = {
        "Every run": tables[1:],
        "More predictions": [picture for pictures in predictions.values() for picture in pictures[1:]],
        "More findings of the detectors": [picture for pictures in findings.values() for picture in pictures[1:]],
        "Loss curves": make_curves(results),
        "Notes": [Notes([METHOD, *(NOTES[start] for start in plan.starts if start in NOTES), SPLITS])],
        "Versions and machine": [Facts("", environment(seconds))],
    }
    sections = [
        Section("Still running", done, RUNNING.format(minutes=seconds / 60)),
        Section("Results", tables[:1]),
        Section("Predictions", [pictures[0] for pictures in predictions.values() if pictures], PREDICTIONS),
        Section("Findings of the detectors", [pictures[0] for pictures in findings.values() if pictures], FINDINGS),
        Section("More", [Folded(title, parts) for title, parts in folded.items() if parts]),
    ]
    return write_report(
        work_dir / "report.html",
        title="MaskFeat: predicting the edges of masked parts",
        intro=INTRO,
        sections=[section for section in sections if section.parts],
    )


def list_progress(results: Mapping[str, dict], tasks: Sequence[Task]) -> dict[str, str]:
    """Return the state of each part of a running demo.

    Args:
        results (Mapping[str, dict]): Pre-training name -> outcome of :func:`run_part`, up to now.
        tasks (Sequence[Task]): The tasks of the demo.

    Returns:
        dict[str, str]: Name of a pre-training or title of a task -> state. The pre-trainings come first.
    """
    scores = _scores(results)
    states = {}
    for name in dict.fromkeys(task.pretraining.name for task in tasks):
        states[f"Pre-training: {name}"] = "in progress"
        if name in results:
            run = results[name]["pretraining"]
            steps, whole = run["steps"][-1], run["max_iters"]
            states[f"Pre-training: {name}"] = "done" if steps == whole else f"{steps} of {whole} steps done"
    return states | {task.title: "done" if task.name in scores else "not started" for task in tasks}


def make_tables(results: Mapping[str, dict], plan: Plan) -> list[Table]:
    """Build the table of the finished tasks and, with several seeds, the table of all runs."""
    columns, rows = _rows(results)
    budget = ", all starts with the same fine-tuning budget" if len(plan.starts) > 1 else ""
    caption = f"{describe_scores(plan)}{budget}. {describe_starts(results)} "
    tables = [Table("Result", columns, rows, caption=caption + " ".join(verdict(results, plan)))]
    if len(plan.seeds) > 1:
        rows = [
            [TASKS[name].title, start, *(f"{v:.1f}" for v in values)]
            for name, of_task in _scores(results).items()
            for start, values in of_task.items()
        ]
        columns = ["task", "start", *(f"seed {seed}" for seed in plan.seeds)]
        caption = "On the test split, in percent. A seed chooses the labelled samples too."
        tables.append(Table("Every run", columns, rows, caption=caption))
    return tables


def make_curves(results: Mapping[str, dict]) -> list[Curve]:
    """Build a chart for each pre-training of this run: its loss, and the loss of predicting the mean."""
    return [
        Curve(
            f"Pre-training: {name}",
            "step",
            "HOG loss (mean squared error, mean of 50 steps)",
            {
                "MaskFeat": (r["pretraining"]["steps"], r["pretraining"]["loss"]),
                "predicting the mean target": (r["pretraining"]["steps"], r["pretraining"]["baseline"]),
            },
            dashed=("predicting the mean target",),
            caption="Pre-training of this run. Below the dashed line, the model predicts better than the mean target.",
        )
        for name, r in results.items()
    ]


def make_panels(results: Mapping[str, dict], plan: Plan, data_root: Path = DATA_ROOT) -> dict[str, list[Picture]]:
    """Draw masked input, predicted HOG, true HOG and original of test samples, by the name of the pre-training.

    The best model comes first. All samples have different digits, and so do the first picture and the first clip.
    """
    found: dict[str, list[Picture]] = {}
    digits = read_digits(data_root)
    first = {""}  # "" stands for clips with an unknown digit
    for name, result in results.items():
        pretraining, run = PRETRAININGS[name], result["pretraining"]
        models = {f"after {run['steps'][-1]} steps of this run's pre-training": run["checkpoint"]}
        if SHIPPED in plan.starts and pretraining.shipped_weights.exists():
            shipped = {"after long pre-training (shipped weights)": str(pretraining.shipped_weights)}
            models = {**shipped, **models}
        indices = choose_different(digits[name], SHOWN[name], without=first)
        first.update(digits[name][index] for index in indices[:1])
        for title, checkpoint in models.items():
            panels = draw_predictions(pretraining, checkpoint, indices, data_root)
            for index, panel in zip(indices, panels, strict=True):
                shown = {label: strip(panel[key]) for key, label in LABELS.items()}
                picture = Picture(f"{KINDS[name]} {index} of the test split, {title}", shown)
                found.setdefault(name, []).append(picture)
    return found


def make_findings(results: Mapping[str, dict], work_dir: Path, data_root: Path = DATA_ROOT) -> dict[str, list[Picture]]:
    """Draw test samples with the boxes that the detectors of the best start find, by the name of the task."""
    return {
        name: draw_findings(TASKS[name], work_dir, list(starts)[-1], FOUND, data_root)
        for name, starts in _scores(results).items()
        if name in READERS
    }


def environment(seconds: float) -> dict[str, str]:
    """Return the duration, the machine and the versions behind the numbers."""
    import mmaction
    import mmdet
    import mmengine
    import mmpretrain

    return {
        "time": f"{seconds / 60:.1f} minutes",
        "cores": str(usable_cores()),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mmengine": mmengine.__version__,
        "mmpretrain": mmpretrain.__version__,
        "mmaction2": mmaction.__version__,
        "mmdet": mmdet.__version__,
        "mmseg": version("mmsegmentation"),
        "maskfeat_plugin": maskfeat_plugin.__version__,
    }
