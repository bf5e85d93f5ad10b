"""The whole demo: the data, images and clips side by side, the table and the page."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from maskfeat_cli.folders import tools_folder
from maskfeat_plugin.datasets.moving_digits import MOTIONS, MovingDigitsConfig, build_moving_digits
from maskfeat_plugin.machine import usable_cores

from .live_page import Page
from .report_page import describe_scores, describe_starts, format_table, verdict
from .tasks import DATA_ROOT, FULL, PRETRAININGS, QUICK, TASKS, WORK_DIR, Plan, Pretraining, Task
from .train import export_weights, pretrain

DATA = MovingDigitsConfig(
    num_digits=(1, 1),
    motions=MOTIONS[:8],
    scale=(0.6, 0.95),
    num_train=4000,
    frames_per_clip=4,
    labelled=(200, 400, 1000),
)
# What a line begins with that one of the two processes has for the user.
PROGRESS = "> "


class DemoError(RuntimeError):
    """A part of the demo failed; the text says which and why."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def say_progress(text: str) -> None:
    """Print a line that the process above passes on; anything else is noise of the libraries."""
    say(PROGRESS + text)


def build_data(data_root: Path) -> None:
    """Build MovingDigits as the demo's configs expect it, or leave it if it is there.

    Args:
        data_root (Path): Its root.

    Raises:
        DemoError: If the root holds something else.
    """
    try:
        build_moving_digits(data_root, DATA)
    except FileExistsError as error:
        raise DemoError(f"{error}; or delete {data_root}") from error


def run_demo(
    work_dir: Path = WORK_DIR,
    data_root: Path = DATA_ROOT,
    tasks: Sequence[Task] | None = None,
    plan: Plan = QUICK,
) -> Path:
    """Build the data, run the tasks, images and clips in a process each, print the table and write the page.

    The page appears with the first predictions and is written anew until it is complete.

    Args:
        work_dir (Path): Where everything but the data is written.
        data_root (Path): Root of MovingDigits.
        tasks (Sequence[Task], optional): The tasks. Defaults to all.
        plan (Plan): How much of it to run. Defaults to the demo of minutes.

    Returns:
        Path: The page.

    Raises:
        DemoError: If a task failed.
    """
    tasks = list(tasks or TASKS.values())
    work_dir.mkdir(parents=True, exist_ok=True)
    page = Page(plan, tasks, work_dir, data_root, say)
    page.clear()
    build_data(data_root)
    parts = {
        name: [task.name for task in tasks if task.pretraining.name == name]
        for name in PRETRAININGS
        if any(task.pretraining.name == name for task in tasks)
    }
    say(f"Pre-training and fine-tuning ({', '.join(task.name for task in tasks)}):")
    full = ["--full"] if plan == FULL else []
    commands = [[*full, "--part", name, "--tasks", *names] for name, names in parts.items()]
    _run_side_by_side(commands, work_dir, page.update)
    results = page.write()
    say(f"\n{describe_scores(plan)}:\n")
    say(format_table(results) + "\n")
    say(describe_starts(results))
    say("\n".join(verdict(results, plan)))
    say(f"\nDone in {page.minutes:.1f} minutes. Loss curves and pictures: {page.path}")
    return page.path


def make_weights(work_dir: Path = WORK_DIR, data_root: Path = DATA_ROOT) -> None:
    """Train the shipped weights anew: the demo's pre-trainings, longer.

    Args:
        work_dir (Path): Where the runs write.
        data_root (Path): Root of MovingDigits.

    Raises:
        DemoError: If a run failed.
    """
    build_data(data_root)
    _run_side_by_side([["--make-weights", "--part", name] for name in PRETRAININGS], work_dir)


def make_weights_of(pretraining: Pretraining, work_dir: Path, data_root: Path = DATA_ROOT) -> Path:
    """Train and export the shipped weights of one pre-training.

    Args:
        pretraining (Pretraining): The pre-training.
        work_dir (Path): Where the run writes.
        data_root (Path): Root of MovingDigits.

    Returns:
        Path: The weights in the repository.
    """
    target = pretraining.shipped_weights
    folder = work_dir / pretraining.name / "long_pretraining"
    run = pretrain(pretraining.long_config, folder, say_progress, data_root)
    export_weights(run["checkpoint"], target, f"make demo-weights ({pretraining.long_config})", run["max_iters"])
    minutes = run["seconds"] / 60
    say_progress(f"{pretraining.name}: {run['max_iters']} steps in {minutes:.0f} minutes, written to {target}")
    return target


def _run_side_by_side(
    arguments: Sequence[list[str]], work_dir: Path, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Run ``tools/demo.py`` with each list of arguments, in a process each at the same time, and print their progress.

    Args:
        arguments (Sequence[list[str]]): Arguments of each process.
        work_dir (Path): Where they write.
        meanwhile (Callable[[], None]): Called several times a second as long as they run. Defaults to nothing.

    Raises:
        DemoError: If a process failed.
    """
    threads = str(max(1, usable_cores() // len(arguments)))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "ignore", str(tools_folder() / "demo.py"), "--work-dir", str(work_dir)]
    processes = [
        subprocess.Popen(
            [*command, *extra], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for extra in arguments
    ]
    tails: list[list[str]] = [[] for _ in processes]
    readers = [
        threading.Thread(target=_pass_on, args=(process, tail), daemon=True)
        for process, tail in zip(processes, tails, strict=True)
    ]
    for reader in readers:
        reader.start()
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):
                break
            meanwhile()
            time.sleep(0.2)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process, reader in zip(processes, readers, strict=True):
            process.wait()
            reader.join()
    for extra, process, tail in zip(arguments, processes, tails, strict=True):
        if process.returncode > 0:
            raise DemoError(f"{' '.join(extra)} failed; its last lines:\n" + "\n".join(tail[-15:]))


def _pass_on(process: subprocess.Popen, tail: list[str]) -> None:
    """Print a process's progress and keep what else it writes, for an error message."""
    assert process.stdout is not None  # a pipe
    for line in process.stdout:
        line = line.rstrip()
        if line.startswith(PROGRESS):
            say(line.removeprefix(PROGRESS))
        else:
            tail.append(line)
            del tail[:-100]
