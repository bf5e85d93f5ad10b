"""Results of a study as a CSV file, an HTML page, and Markdown tables."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing
from maskfeat_plugin.visualization import Facts, Notes, Section, Spread, Table, write_report
from projects.demo.report_page import environment

from .claims import KINDS, claim_tables
from .intervals import interval, paired_differences
from .planned_runs import Plan, Run
from .settings import STUDIES, Setting

COLUMNS = (
    "study",
    "kind",
    "setting",
    "seed",
    "metric",
    "score",
    "knn",
    "loss",
    "baseline",
    "steps",
    "step_ms",
    "seconds",
    "run",
)
BEGIN, END = "<!-- tools/ablate.py begin -->", "<!-- tools/ablate.py end -->"


def rows_of(plan: Plan) -> list[dict]:
    """Return a row for each run with a result. A run that is in several tables has a row for each of them.

    Args:
        plan (Plan): The plan.

    Returns:
        list[dict]: Rows with the keys ``COLUMNS``.
    """
    rows = []
    for (study, kind), cells in plan.cells.items():
        for setting, runs in cells.items():
            for run in runs:
                result = run.result
                if result is None:
                    continue
                step = result["step_seconds"]
                rows.append(
                    dict(
                        study=study,
                        kind=kind,
                        setting=setting.name,
                        seed=run.seed,
                        step_ms=None if step is None else 1e3 * step,
                        run=run.folder.name,
                        **{k: result[k] for k in ("metric", "score", "knn", "loss", "baseline", "steps", "seconds")},
                    )
                )
    return rows


def write_csv(plan: Plan, path: Path) -> Path:
    """Write one row per run.

    Args:
        plan (Plan): The plan.
        path (Path): The file.

    Returns:
        Path: The file.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows_of(plan):
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return _write(path, text.getvalue())


def tables_of(plan: Plan) -> list[Table]:
    """Build a table for each study and kind of data that has a result beside those that all studies share.

    Args:
        plan (Plan): The plan.

    Returns:
        list[Table]: Mean and standard deviation over the seeds, and the difference from the base in points with its
        confidence interval.
    """
    tables = []
    for (study, kind), cells in plan.cells.items():
        done = {setting: _results(runs) for setting, runs in cells.items()}
        if not any(results for setting, results in done.items() if setting.length and not _is_base(setting)):
            continue
        metrics = {r["metric"] for results in done.values() for r in results}
        base = next((runs for s, runs in cells.items() if _is_base(s)), [])
        rows = []
        for setting, results in done.items():
            scores = [r["score"] for r in results]
            neighbours = [r["knn"] for r in results if r["knn"] is not None]
            difference = "" if _is_base(setting) else _difference(cells[setting], base)
            steps = [r["step_seconds"] for r in results if r["step_seconds"] is not None]
            rows.append(
                [
                    setting.name,
                    setting.description,
                    _spread(scores),
                    difference,
                    _spread(neighbours),
                    _relative_loss(results),
                    f"{1e3 * statistics.median(steps):.0f}" if steps else "",
                    _pretraining_seconds(results),
                    f"{len(scores)}",
                ]
            )
        names = " or ".join(sorted(metrics)) or "score"
        columns = ["setting", "description", names, "against the base", "k-NN", "loss / baseline", "step, ms"]
        columns += ["pre-training, s", "runs"]
        tables.append(Table(f"{STUDIES[study].title}: {KINDS[kind]}", columns, rows, caption=STUDIES[study].text))
    return tables


def charts_of(plan: Plan) -> list[Spread]:
    """Build a chart for each study and kind of data, with the settings that have results.

    Args:
        plan (Plan): The plan.

    Returns:
        list[Spread]: The scores of every run.
    """
    charts = []
    for (study, kind), cells in plan.cells.items():
        done = {setting: _results(runs) for setting, runs in cells.items()}
        groups = {setting.name: [r["score"] for r in results] for setting, results in done.items() if results}
        if groups:
            reference = next((s.name for s in cells if _is_base(s) and s.name in groups), None)
            metric = next(r["metric"] for results in done.values() for r in results)
            caption = (
                "Dot and bar: mean and standard deviation over the seeds. Strokes: single runs. Dashed line: the base."
            )
            charts.append(Spread(f"{STUDIES[study].title}: {KINDS[kind]}", metric, groups, reference, caption))
    return charts


def write_page(plan: Plan, path: Path, intro: str, seconds: float) -> Path:
    """Write the page with all tables and charts.

    Args:
        plan (Plan): The plan.
        path (Path): The file.
        intro (str): Description of the runs.
        seconds (float): Sum of the durations of the runs.

    Returns:
        Path: The file.
    """
    claims = claim_tables(plan)
    return write_report(
        path,
        title="MaskFeat: results of the studies",
        intro=intro,
        sections=[
            *([Section("Claims", claims)] if claims else []),
            Section("Charts", charts_of(plan)),
            Section("Results", tables_of(plan), NOTE),
            *([Section("Left out", [Notes(plan.left_out)])] if plan.left_out else []),
            Section("Versions and machine", [Facts("", environment(seconds))]),
        ],
    )


NOTE = (
    "Score: metric on the test data after fine-tuning with the same budget, as mean ± standard deviation over the "
    "seeds. A seed controls all random choices, including the labelled samples of MovingDigits. k-NN: accuracy of the "
    "features at the start of fine-tuning. Against the base: the mean difference from the base's run with the same "
    "seed, with the 95 % confidence interval of Student's t. Loss / baseline: the last pre-training loss, divided by "
    "the loss of predicting the mean target; empty for several targets. Step: the median time of a pre-training step, "
    "including data loading, while the other processes of the study run. Pre-training: the number of steps, multiplied "
    "by this time."
)


def markdown(plan: Plan, intro: str) -> str:
    """Format all tables in Markdown.

    Args:
        plan (Plan): The plan.
        intro (str): Description of the runs.

    Returns:
        str: The text.
    """
    parts = [intro, NOTE]
    for table in [*claim_tables(plan), *tables_of(plan)]:
        lines = [table.columns, ["---"] * len(table.columns), *table.rows]
        text = "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)
        parts.append(f"### {table.title}\n\n{table.caption}\n\n{text}")
    return "\n\n".join([*parts, *plan.left_out])


def put_into_page(path: Path, text: str) -> None:
    """Replace the text between the two marks of a page.

    Args:
        path (Path): A page in Markdown.
        text (str): The text.

    Raises:
        ConfigError: If the page or a mark is missing.
    """
    page = check_page(path)
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    _write(path, f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


def check_page(path: Path) -> str:
    """Read a page and check that it has the two marks.

    Raises:
        ConfigError: If the page or a mark is missing.
    """
    page = path.read_text() if path.is_file() else ""
    if not 0 <= page.find(BEGIN) < page.find(END):
        raise ConfigError(f"--docs {path}: the marks are missing. Add the lines {BEGIN} and {END}; tables go between.")
    return page


def _results(runs: Sequence[Run]) -> list[dict]:
    return [result for run in runs if (result := run.result) is not None]


def _is_base(setting: Setting) -> bool:
    return setting.name.endswith("(base)")


def _spread(values: Sequence[float]) -> str:
    """Format mean and standard deviation."""
    if len(values) > 1:
        return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    return f"{values[0]:.1f}" if values else ""


def _difference(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """Format the mean difference from the base over the seeds that both have, with its 95 % confidence interval."""
    differences = paired_differences(runs, base)
    if len(differences) > 1:
        return str(interval(differences))
    return f"{differences[0]:+.1f}" if differences else ""


def _relative_loss(results: Sequence[dict]) -> str:
    """Format the loss, divided by the loss of predicting the mean."""
    shares = [r["loss"] / r["baseline"] for r in results if r["loss"] is not None and r["baseline"]]
    return f"{statistics.mean(shares):.2f}" if shares else ""


def _pretraining_seconds(results: Sequence[dict]) -> str:
    """Format the median duration of the pre-training steps."""
    seconds = [r["steps"] * r["step_seconds"] for r in results if r["step_seconds"] is not None]
    return f"{statistics.median(seconds):.1f}" if seconds else ""


def _write(path: Path, text: str) -> Path:
    with writing(path) as unfinished:
        unfinished.write_text(text)
    return path
