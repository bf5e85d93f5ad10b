"""Run of the whole demo: build the data, train on images and clips in parallel, print the table, write the page."""

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
from .tasks import DATA_ROOT, FULL, PRETRAININGS, QUICK, WORK_DIR, Plan, Pretraining, Task, default_tasks
from .train import export_weights, pretrain

DATA = MovingDigitsConfig(
    num_digits=(1, 1),
    motions=MOTIONS[:8],
    scale=(0.6, 0.95),
    num_train=4000,
    frames_per_clip=4,
    labelled=(200, 400, 1000),
)
# Beginning of the lines that the two processes print for the user.
PROGRESS = "> "


class DemoError(RuntimeError):
    """Failure of a part of the demo. The message names the part and the reason."""


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def say_progress(text: str) -> None:
    """Print a line that the parent process passes on. It drops all other lines, which come from the libraries."""
    say(PROGRESS + text)


def build_data(data_root: Path) -> None:
    """Build MovingDigits with the settings of the demo's configs. Do nothing if it exists.

    Args:
        data_root (Path): Root of MovingDigits.

    Raises:
        DemoError: If the root holds other data.
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
    """Build the data, run the tasks, print the table and write the page.

    One process runs the tasks on images, another the tasks on clips. The page appears with the first predictions and
    is written again until it is complete.

    Args:
        work_dir (Path): Folder for everything except the data.
        data_root (Path): Root of MovingDigits.
        tasks (Sequence[Task], optional): The tasks. Defaults to :func:`.default_tasks`.
        plan (Plan): Size of the demo. Defaults to the short demo, which takes minutes.

    Returns:
        Path: The page.

    Raises:
        DemoError: If a task failed.
    """
    tasks = list(tasks or default_tasks(plan))
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
    say(f"\nDone in {page.minutes:.1f} minutes. Loss curves and pictures are in {page.path}")
    return page.path


def make_weights(work_dir: Path = WORK_DIR, data_root: Path = DATA_ROOT) -> None:
    """Train the shipped weights again. They come from longer versions of the demo's pre-trainings.

    Args:
        work_dir (Path): Folder of the runs.
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
        work_dir (Path): Folder of the run.
        data_root (Path): Root of MovingDigits.

    Returns:
        Path: The file of the weights in the repository.
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
    """Run a ``tools/demo.py`` process for each list of arguments, all at the same time, and print their progress.

    Args:
        arguments (Sequence[list[str]]): Arguments of each process.
        work_dir (Path): Folder that the processes write to.
        meanwhile (Callable[[], None]): Called several times a second while they run. Defaults to a function that does
            nothing.

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
            raise DemoError(f"the part {' '.join(extra)} failed. Its last lines:\n" + "\n".join(tail[-15:]))


def _pass_on(process: subprocess.Popen, tail: list[str]) -> None:
    """Print the progress of a process, and keep its other output for an error message."""
    assert process.stdout is not None  # a pipe
    for line in process.stdout:
        line = line.rstrip()
        if line.startswith(PROGRESS):
            say(line.removeprefix(PROGRESS))
        else:
            tail.append(line)
            del tail[:-100]
