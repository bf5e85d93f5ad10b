"""Page of a training: tables, charts and pictures."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskfeat_plugin.errors import ConfigError, WriteError
from maskfeat_plugin.visualization import Curve, Facts, Headline, Notes, Section, Table, Text, write_report
from maskfeat_plugin.visualization.report.parts import Part

from .config_text import section_of
from .damage import as_count
from .history import History, Series, join_runs, trainings_of
from .records import describe_runs, find_records
from .run_folders import Run, read_runs
from .samples import find_samples, make_pictures

# Logged values that are neither losses nor metrics of a batch
_LOGGED = (
    *("lr", "base_lr", "momentum", "weight_decay", "grad_norm", "mask_ratio", "time", "data_time"),
    *("samples_per_second", "memory", "host_memory", "seconds_left"),
)
_KINDS = (
    ("MaskFeat", "Pre-training: the model predicts features of the masked parts of its input, without labels."),
    ("ImageClassifier", "Image classification, by mmpretrain."),
    ("Recognizer3D", "Video recognition, by mmaction2."),
    ("Recognizer2D", "Video recognition, by mmaction2."),
    ("FastRCNN", "Action detection: the actions of persons in given boxes, by mmdet and mmaction2."),
    ("FasterRCNN", "Object detection, by mmdet."),
    ("MaskRCNN", "Object detection and instance segmentation, by mmdet."),
    ("EncoderDecoder", "Semantic segmentation, by mmseg."),
)
HOW_TO_GET_SAMPLES = (
    "This training has written no pictures. Add these two settings to its config. Then it draws inputs and "
    "predictions, and the next report shows them:"
)
WHAT_SAMPLES_SHOW = (
    "The training has written these pictures; a step is a training step. In a picture of a clip, time runs from left "
    "to right, and the number above a column is the number of its frame in the clip."
)
SAMPLE_SETTINGS = (
    'visualizer = dict(type="maskfeat.MaskFeatVisualizer", vis_backends=[dict(type="LocalVisBackend")])',
    'custom_hooks = [dict(type="maskfeat.MaskFeatVisualizationHook", interval=1000)]',
)
# Largest number of curves in a chart
_SERIES = 6


def write_training_report(work_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write one page about a training, from the files that it has written so far. Only the page is written.

    Args:
        work_dir (str | Path): Work directory of the training.
        out (str | Path, optional): The file to write. Defaults to None: ``report.html`` in the work directory.

    Returns:
        Path: The file.

    Raises:
        ConfigError: If there is no training, or the page cannot be written.
    """
    work_dir = Path(work_dir)
    path = Path(out) if out is not None else work_dir / "report.html"
    with np.errstate(all="ignore"):  # numbers in damaged files may have any size
        return _write(work_dir, path)


def _write(work_dir: Path, path: Path) -> Path:
    runs = read_runs(work_dir)
    history = join_runs(runs)
    last = (trainings_of(runs) or runs)[-1]
    resumed = "Dotted lines show where the training was resumed from a checkpoint." if history.starts else ""
    sections = [
        Section("State", [Headline(_headline(last, runs, history)), *_metric_tables(history, runs), *_remarks(runs)]),
        Section("Learning", [*_learning_charts(history), *_loss_tables(history)], resumed),
        Section("Validation", _metric_charts(history), resumed),
        _sample_section(work_dir, runs, last),
        Section("Throughput", [*_throughput_charts(history), *_throughput_tables(last, history)], resumed),
        Section("Runs and records", [describe_runs(runs, history), *find_records(work_dir, runs)]),
        Section("Configuration", [Text(f"Config of the run {last.folder.name}", last.config)] if last.config else []),
        Section("Versions and machine", [Facts("", last.log.facts)] if last.log.facts else []),
    ]
    try:
        return write_report(
            path,
            title=f"Training of {_name(work_dir, last)}",
            intro=_describe_kind(last.settings),
            sections=[section for section in sections if section.parts],
        )
    except WriteError as error:
        raise ConfigError(f"--out: {error}") from error


def _name(work_dir: Path, run: Run) -> str:
    """Return the name of the config, which is the name of its copy in the work directory."""
    configs = sorted(filter(Path.is_file, work_dir.glob("*.py")), key=lambda path: path.stat().st_mtime)
    name = run.settings.get("experiment_name")
    return configs[-1].stem if configs else name if isinstance(name, str) and name else work_dir.resolve().name


def _describe_kind(settings: dict[str, Any]) -> str:
    model = _model_type(settings).rpartition(".")[2]
    return next((text for name, text in _KINDS if name == model), f"A model of type {model}." if model else "")


def _model_type(settings: dict[str, Any]) -> str:
    kind = section_of(settings, "model").get("type")
    return kind if isinstance(kind, str) else ""


def _headline(run: Run, runs: Sequence[Run], history: History) -> dict[str, str]:
    values = {}
    if history.is_finished:
        values["state"] = "finished"
    elif history.length:
        values["state"] = f"{history.done / history.length:.0%} done"
    values["iterations"] = f"{history.done}" + (f" of {history.length}" if history.length else "")
    if history.epoch_length:
        values["epochs"] = f"{history.done / history.epoch_length:.4g}"
    loss, baseline = _last(history.train, "loss"), _last(history.train, "baseline")
    for name, value in (("loss", loss), ("baseline", baseline)):
        if value is not None:
            values[name] = f"{value:.4g}"
    if loss is not None and baseline is not None and baseline > 0:
        share = loss / baseline
        values["loss / baseline"] = f"{share:.{0 if abs(share) < 100 else 2}%}" if np.isfinite(share) else "not finite"
    speed = history.train.get("samples_per_second")
    if speed is not None:
        finite = speed[1][np.isfinite(speed[1])]
        values[f"{_samples_word(run.settings)} per second"] = (
            f"{np.median(finite):.4g}" if len(finite) else "not finite"
        )
    values["time in training"] = _duration(sum(item.log.seconds for item in trainings_of(runs)))
    left = _last(history.train, "seconds_left")
    if not history.is_finished and left is not None and np.isfinite(left):
        values["estimate of the time left"] = _duration(left)
    return values


def _samples_word(settings: dict[str, Any]) -> str:
    words = {"mmaction": "clips", "mmpretrain": "images", "mmdet": "images", "mmseg": "images"}
    return next((word for scope, word in words.items() if scope == settings.get("default_scope")), "samples")


def _remarks(runs: Sequence[Run]) -> list[Part]:
    remarks = []
    if not trainings_of(runs):
        remarks.append(
            "The training has not logged anything yet. default_hooks.logger.interval sets how often it logs."
        )
    if unreadable := sum(run.unreadable for run in runs):
        what = "line of the logged numbers is" if unreadable == 1 else "lines of the logged numbers are"
        remarks.append(
            f"{unreadable} {what} incomplete and left out. The last line is incomplete if a training was killed."
        )
    return [Notes(remarks)] if remarks else []


def _learning_charts(history: History) -> list[Part]:
    marks: dict[str, Any] = dict(marks=history.starts)
    charts: list[Part] = []

    def add(title: str, y_label: str, names: Sequence[str], caption: str = "", **settings: Any) -> None:
        series = {name: history.train[name] for name in names if name in history.train}
        if series:
            charts.append(Curve(title, "iteration", y_label, series, caption=caption, **settings, **marks))

    has_baseline = {"loss", "baseline"} <= set(history.train)
    add(
        "Loss",
        "loss",
        ("loss", "baseline"),
        "The dashed baseline is the loss of predicting the mean target everywhere. A model with a loss below it has "
        "learned something about the input."
        if has_baseline
        else "",
        dashed=("baseline",) if has_baseline else (),
    )
    for group in _in_groups(_batch_losses(history)):
        add("Parts of the loss", "loss", group)
    for group in _in_groups(_batch_metrics(history)):
        add("Measured on the training batches", "value", group)
    norms = [name for name in history.train if name.rpartition(".")[2] == "grad_norm"]
    values = np.concatenate([history.train[name][1] for name in norms]) if norms else np.zeros(0)
    values = values[np.isfinite(values)]
    peaked = len(values) > 0 and values.min() > 0 and values.max() > 20 * np.median(values)
    caption = "2-norm of all gradients, before clipping."
    add("Norm of the gradients", "grad_norm" + (" (logarithmic)" if peaked else ""), norms, caption, log_y=peaked)
    rates = [name for name in history.train if name.rpartition(".")[2] in ("lr", "base_lr")]
    if "lr" in history.train and _same(history.train["lr"], history.train.get("base_lr")):
        rates.remove("base_lr")
    add("Learning rate", "learning rate", rates)
    add("Mask ratio", "masked share of the tokens", ("mask_ratio",))
    return charts


def _batch_losses(history: History) -> list[str]:
    losses = [name for name in history.train if "loss" in name and name != "loss"]
    total = history.train.get("loss")
    return [name for name in losses if len(losses) > 1 or not _same(history.train[name], total)]


def _batch_metrics(history: History) -> list[str]:
    return [
        name
        for name in history.train
        if "loss" not in name and name != "baseline" and name.rpartition(".")[2] not in _LOGGED
    ]


def _same(a: Series, b: Series | None) -> bool:
    return b is not None and len(a[1]) == len(b[1]) and np.allclose(a[1], b[1], equal_nan=True)


def _in_groups(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[i : i + _SERIES] for i in range(0, len(names), _SERIES)]


def _loss_tables(history: History) -> list[Part]:
    names = [name for name in history.train if "loss" in name] + _batch_metrics(history)
    names += [name for name in ("baseline", "grad_norm", "lr", "mask_ratio") if name in history.train]
    rows = []
    for name in names:
        iterations, values = history.train[name]
        finite = np.isfinite(values)
        if not finite.any():
            rows.append([name, float(values[-1]), "", "", "", int(iterations[-1])])
            continue
        ends = [float(values[-1]), float(values[0]), float(values[finite].min()), float(values[finite].max())]
        rows.append([name, *ends, int(iterations[-1])])
    columns = ["name", "last", "first", "least", "largest", "last iteration"]
    caption = (
        "Values from the log. Losses, baselines, norms and measures on batches are means over the window of the log. "
        "Learning rate and mask ratio are values of the last step."
    )
    return [Table("Last values", columns, rows, caption)] if rows else []


def _metric_tables(history: History, runs: Sequence[Run]) -> list[Part]:
    tables: list[Part] = []
    rows = []
    for name, (iterations, values) in history.metrics.items():
        finite = np.isfinite(values)
        if finite.any():
            best = np.flatnonzero(finite)[values[finite].argmax()]
            rows.append([name, *map(float, (values[-1], values[best])), int(iterations[best]), len(values)])
        else:
            rows.append([name, float(values[-1]), "", "", len(values)])
    if rows:
        columns = ["measure", "last", "largest", "at iteration", "times measured"]
        tables.append(Table("Validation", columns, rows))
    for run in runs:
        if run.test:
            rows = [[name, float(value)] for name, value in run.test.items()]
            tables.append(Table(f"Test {run.folder.name}", ["measure", "value"], rows))
    return tables


def _metric_charts(history: History) -> list[Part]:
    """Draw a chart for all metrics with the same first part of the name, such as accuracy/top1 and accuracy/top5."""
    groups: dict[str, list[str]] = {}
    for name, (_, values) in history.metrics.items():
        if np.isfinite(values).any():
            groups.setdefault(name.partition("/")[0], []).append(name)
    return [
        Curve(
            title if len(groups[title]) > 1 else groups[title][0],
            "iteration",
            "value",
            {name: history.metrics[name] for name in names},
            marks=history.starts,
        )
        for title in groups
        for names in _in_groups(groups[title])
    ]


def _sample_section(work_dir: Path, runs: Sequence[Run], last: Run) -> Section:
    files = find_samples(work_dir, [run.folder for run in runs])
    pictures, left_out = make_pictures(files)
    if pictures:
        parts: list[Part] = list(pictures)
        if left_out:
            parts.append(Notes([f"{left_out} further files are in the work directory."]))
        return Section("Samples", parts, WHAT_SAMPLES_SHOW)
    is_pretraining = "MaskFeat" in _model_type(last.settings)
    if is_pretraining and any(
        re.fullmatch(r"(iter|epoch)_\d+\.(pth|sharded)", path.name) for path in work_dir.iterdir()
    ):
        return Section("Samples", [Notes(SAMPLE_SETTINGS)], HOW_TO_GET_SAMPLES)
    return Section("Samples", [])


def _throughput_charts(history: History) -> list[Part]:
    charts: list[Part] = []
    for title, y_label, names in (
        ("Throughput", "samples per second, all processes together", {"samples_per_second": ""}),
        ("Time of a step", "seconds", {"time": "", "data_time": "data_time is the time spent waiting for data."}),
        (
            "Memory",
            "MB",
            {
                "memory": "memory: largest memory of all tensors on the GPU.",
                "host_memory": "host_memory: memory of a process and of the workers it started.",
            },
        ),
    ):
        series = {name: history.train[name] for name in names if name in history.train}
        if series:
            caption = " ".join(text for name, text in names.items() if name in series and text)
            charts.append(Curve(title, "iteration", y_label, series, caption=caption, marks=history.starts))
    return charts


def _throughput_tables(run: Run, history: History) -> list[Part]:
    loader = section_of(run.settings, "train_dataloader")
    word = _samples_word(run.settings)
    values: dict[str, Any] = {}
    for name, text in (
        ("samples_per_second", f"{word} per second, median"),
        ("time", "seconds of a step, median"),
        ("data_time", "seconds of a step waiting for data, median"),
        ("memory", "MB of tensors on a GPU, largest"),
        ("host_memory", "MB of a process and its workers, largest"),
    ):
        numbers = history.train[name][1] if name in history.train else np.zeros(0)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            values[text] = float((np.max if "memory" in name else np.median)(numbers))
    for name, text in (("batch_size", f"{word} of a batch on each process"), ("num_workers", "workers that read")):
        if (count := as_count(loader.get(name))) is not None:
            values[text] = count
    rows = [[name, value] for name, value in values.items()]
    return [Table("Throughput in numbers", ["what", "value"], rows)] if rows else []


def _last(series: dict[str, Series], name: str) -> float | None:
    return float(series[name][1][-1]) if name in series else None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 1e9 else f"{seconds / 86400:.3g} days"
