"""Compare targets, HOG settings and masks: pre-train small models with each and fine-tune them on few labels.

A run consists of a pre-training, the k-NN accuracy of its features, and a fine-tuning. All runs have the same budget.
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # projects/ is not an installed package

import torch

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_cli.arguments import OptionAction, positive
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.running.command_line import run_tool
from projects import ROOT
from projects.benchmark import describe_machine
from projects.study import (
    PATTERNS,
    STUDIES,
    Base,
    Failure,
    Plan,
    build_data,
    check_page,
    choose,
    config_base,
    default_workers,
    demo_base,
    describe_seconds,
    do_runs,
    format_step_times,
    markdown,
    own_target,
    plan_runs,
    put_into_page,
    step_times,
    write_csv,
    write_page,
)

STEP_TIMES = "step-times"
EXAMPLE = """examples:
  python tools/ablate.py all --docs docs/study.md      all studies on MovingDigits, five seeds
  python tools/ablate.py targets masks --seeds 0 --dry-run
  python tools/ablate.py targets --config PRETRAIN.py --finetune-config FINETUNE.py --target DINO=DINO.py
  python tools/ablate.py step-times                    time a training step of each target, relative to HOG's
  python tools/ablate.py step-times efficient          the same for the configs of one study: targets or efficient

Run the command again to continue an interrupted study. See docs/study.md."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; all for all of them; or {STEP_TIMES}")
    add("--list", action="store_true", help="list the studies and their settings, run nothing")
    add("--dry-run", action="store_true", help="list the runs and estimate their time, run nothing")
    add("--report", action="store_true", help="write the tables of the finished runs, run nothing")
    add("--seeds", nargs="+", type=int, default=list(range(5)), help="a run per setting and seed (default: 0 to 4)")
    add("--steps", type=positive, help="length of pre-training: steps or epochs, as the config's loop counts")
    add("--finetune-steps", type=positive, help="length of fine-tuning: steps or epochs, as the config's loop counts")
    add("--kinds", nargs="+", choices=("image", "video"), default=["image", "video"], help="kinds of demo data to use")
    add("--config", metavar="FILE", help="pre-training config to vary, instead of the demo's")
    add("--finetune-config", metavar="FILE", help="config that fine-tunes and tests the backbone of --config")
    add("--metric", help="metric of the test to compare (default: top-1 accuracy, else the first metric)")
    add("--target", nargs="+", default=[], metavar="NAME=FILE", help="also compare the target of this config")
    add(
        "--cfg-options",
        nargs="+",
        action=OptionAction,
        metavar="KEY=VALUE",
        help="settings to change in the pre-training config, such as train_dataloader.batch_size=8",
    )
    add(
        "--work-dir",
        type=Path,
        default=ROOT / "work_dirs" / "study",
        help="folder of the runs (default: work_dirs/study)",
    )
    add("--out", type=Path, metavar="FOLDER", help="folder for study.csv and study.html (default: the work directory)")
    add("--docs", type=Path, metavar="PAGE", help="Markdown page; write the tables between its two marks")
    add(
        "--data-root",
        type=Path,
        help="MovingDigits to use instead of the studies' own (data/study_images, data/study_clips; built if missing)",
    )
    add("--workers", type=positive, help="number of parallel runs (default: one per GPU, else one per core)")
    add("--repeats", type=positive, default=7, help=f"{STEP_TIMES}: timed steps of each target (default: %(default)s)")
    return parser


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def print_studies() -> None:
    """Print the studies and their settings."""
    for study in STUDIES.values():
        say(f"{study.name}: {study.title}. {study.text}")
        for kind, settings in study.settings.items():
            say(f"  {kind}")
            for setting in settings:
                say(f"    {setting.name:26} {setting.description}".rstrip())


def print_step_times(repeats: int, studies: list[str]) -> None:
    """Time a training step of each config, or of the configs of some studies, and print the table.

    Raises:
        ConfigError: If a study has no step times.
    """
    unknown = [name for name in studies if name not in PATTERNS]
    if unknown:
        raise ConfigError(f"{STEP_TIMES} {unknown[0]}: give {' or '.join(PATTERNS)}, or no study for all of them.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for row in step_times(repeats, device, studies=studies or tuple(PATTERNS)):
        rows.append(row)
        print(f"{row[0]}: {row[1] / row[2]:.2f} x the time of HOG's step", file=sys.stderr, flush=True)
    say(f"{describe_machine(device)}, median of {repeats} steps, in turns:\n\n{format_step_times(rows)}")


def make_bases(args: argparse.Namespace) -> list[Base]:
    """Build the configs that the settings vary: the demo's, or those from the command line.

    Raises:
        ConfigError: If a config cannot be used.
    """
    if (args.config is None) != (args.finetune_config is None):
        raise ConfigError("--config and --finetune-config go together: give both or neither.")
    lengths = (args.steps, args.finetune_steps, args.cfg_options)
    if args.config is not None:
        return [config_base(args.config, args.finetune_config, *lengths, args.metric)]
    if args.data_root is not None and not args.data_root.is_dir():
        raise ConfigError(
            f"--data-root {args.data_root}: the folder does not exist. Build it with tools/data/moving_digits.py."
        )
    used = {kind for study in choose(args.studies) for kind in study.settings}
    kinds = [kind for kind in args.kinds if kind in used]
    return [demo_base(kind, *lengths, args.data_root or build_data(kind)) for kind in kinds]


def print_plan(plan: Plan, workers: int, in_seconds: bool) -> None:
    """Print the number of runs and an estimate of their time."""
    todo = [run for run in plan.runs if run.result is None]
    total = sum(run.seconds for run in todo)
    text = f"{len(todo)} of {len(plan.runs)} runs left, {workers} processes"
    if in_seconds:
        longest = max((run.seconds for run in todo), default=0.0)
        text += f", about {describe_seconds(max(total / workers, longest))}"
    else:
        text += f", {total:.0f} steps or epochs in total; the time left is printed after the first run"
    say(text)


def print_runs(plan: Plan) -> None:
    """Print the runs."""
    for run in plan.runs:
        say(f"{'to do' if run.result is None else 'done':6} {run.title:48} {run.folder.name}")


def write_reports(args: argparse.Namespace, plan: Plan, bases: list[Base], workers: int) -> None:
    """Write the results so far: the CSV file, the HTML page and, with ``--docs``, the tables in a page."""
    results = [result for run in plan.runs if (result := run.result)]
    if not results:
        say("no run is finished, so no tables are written")
        return
    seconds = sum(result["seconds"] for result in results)
    budgets = " ".join(
        f"{base.kind.capitalize()}: pre-training {base.steps} x batches of "
        f"{base.pretrain.train_dataloader.batch_size}, fine-tuning {base.finetune_steps} x batches of "
        f"{base.finetune.train_dataloader.batch_size}."
        for base in bases
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    intro = (
        f"{len(results)} of {len(plan.runs)} runs, seeds {', '.join(map(str, args.seeds))}. {budgets} In total the "
        f"runs took {describe_seconds(seconds)}, with {workers} processes in parallel "
        f"({describe_machine(device).split(',')[0]}, torch {torch.__version__})."
    )
    out = args.out or args.work_dir
    table = write_csv(plan, out / "study.csv")
    page = write_page(plan, out / "study.html", intro, seconds)
    if args.docs:
        put_into_page(args.docs, markdown(plan, intro))
    say(f"tables and plots: {page}; all runs: {table}")


def run_studies(args: argparse.Namespace) -> list[Failure]:
    """Plan the runs, do them, write the results, and return the failures."""
    if args.docs:
        check_page(args.docs)
    extra = [own_target(text) for text in args.target]
    bases = make_bases(args)
    plan = plan_runs(choose(args.studies), bases, args.seeds, args.work_dir, extra)
    for line in plan.left_out:
        say(line)
    workers = args.workers or default_workers()
    if args.dry_run:
        print_runs(plan)
    print_plan(plan, workers, args.config is None)
    if args.dry_run:
        return []
    try:
        failures = [] if args.report else do_runs(plan.runs, workers, say)
    finally:
        write_reports(args, plan, bases, workers)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return failures


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    unknown = sorted(set(args.studies) - {*STUDIES, "all", STEP_TIMES})
    if unknown:
        parser.error(f"STUDY: there is no study {unknown[0]}. Choose from {', '.join(STUDIES)}, all, {STEP_TIMES}.")
    if not args.studies and not args.list:
        parser.error(f"STUDY: no study is given. Choose from {', '.join(STUDIES)}, all, {STEP_TIMES}.")
    failures = []

    def work() -> None:
        # handle `kill` like Ctrl-C, which ends the processes of the runs
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if args.list:
            print_studies()
        elif STEP_TIMES in args.studies:
            print_step_times(args.repeats, [name for name in args.studies if name != STEP_TIMES])
        else:
            failures.extend(run_studies(args))

    status = run_tool(work, hint="run the same command again to continue")
    return status or int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
