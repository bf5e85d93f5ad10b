"""Schedule that does the runs of a plan in several parallel processes."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch

from maskfeat_plugin.machine import usable_cores
from projects import environment

from .planned_runs import RESULT, Run, describe_seconds, write_run
from .run import LOG

# Command of the process that does runs. `projects.study.run.serve` documents the protocol.
COMMAND = [sys.executable, "-W", "ignore", "-c", "from projects.study.run import serve; serve()"]
TAIL = 8


@dataclass
class Failure:
    """Failed run.

    Args:
        run (Run): The run.
        lines (list[str]): The last lines of its log.
    """

    run: Run
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.run.title}: failed. See {self.run.folder / LOG}:\n" + "\n".join(f"    {x}" for x in self.lines)


def default_workers() -> int:
    """Return the number of processes: one per GPU, or one per core without a GPU."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return usable_cores()


def do_runs(runs: Sequence[Run], workers: int, say: Callable[[str], None], interval: float = 60.0) -> list[Failure]:
    """Do the runs that have no result yet. An interruption ends the processes.

    Args:
        runs (Sequence[Run]): The runs, in the order in which to start them.
        workers (int): Number of processes.
        say (Callable[[str], None]): Prints lines of progress.
        interval (float): Seconds between two lines of a run. Defaults to 60.

    Returns:
        list[Failure]: The failed runs. All others have a ``result.json``.
    """
    todo = [run for run in runs if not (run.folder / RESULT).is_file()]
    if len(todo) < len(runs):
        say(f"{len(runs) - len(todo)} of {len(runs)} runs are finished already")
    schedule = _Schedule(todo, len(runs), workers, say, interval)
    threads = [threading.Thread(target=schedule.work, args=(i,), daemon=True) for i in range(min(workers, len(todo)))]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
    finally:
        schedule.stop()
        for thread in threads:
            thread.join()
    return schedule.failures


class _Schedule:
    """Waiting, active and finished runs. There is one thread for each process."""

    def __init__(
        self, todo: Sequence[Run], total: int, workers: int, say: Callable[[str], None], interval: float
    ) -> None:
        self.waiting = list(todo)
        self.active: list[Run] = []
        self.done: list[Run] = []
        self.failures: list[Failure] = []
        self.total, self.workers, self.interval = total, workers, interval
        self.before = total - len(todo)
        self.say = say
        self.start = time.monotonic()
        self.stopped = False
        self.processes: dict[int, subprocess.Popen[str]] = {}
        self.change = threading.Condition()

    def work(self, index: int) -> None:
        """Give runs to a process until none is left."""
        while (run := self._take()) is not None:
            ok = self._do(index, run)
            with self.change:
                self.active.remove(run)
                if self.stopped:
                    return
                self._end(run, ok)
                self.change.notify_all()
        if index in self.processes:
            _pipes(self.processes[index])[0].close()
            self.processes[index].wait()

    def stop(self) -> None:
        """End the processes."""
        with self.change:
            self.stopped = True
            self.waiting.clear()
            self.change.notify_all()
            running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            process.terminate()

    def _take(self) -> Run | None:
        """Take the next run whose needed run is finished. Wait if the needed runs are still active."""
        with self.change:
            while self.waiting:
                for run in self.waiting:
                    if run.needs is None or (run.needs / RESULT).is_file():
                        self.waiting.remove(run)
                        self.active.append(run)
                        return run
                if not self.active:  # the runs that they need have failed
                    for run in self.waiting:
                        self.failures.append(Failure(run, [f"it needs the run {run.needs}, which failed"]))
                        self.say(str(self.failures[-1]))
                    self.waiting.clear()
                    self.change.notify_all()
                    break
                self.change.wait()
        return None

    def _do(self, index: int, run: Run) -> bool:
        """Let the process of this thread do a run. Start a new process if the last one has ended."""
        with self.change:
            if self.stopped:
                return False
            process = self.processes.get(index)
            if process is None or process.poll() is not None:
                process = self.processes[index] = _start(index, self.workers)
        write_run(run)
        try:
            stdin, stdout = _pipes(process)
            stdin.write(f"{run.folder}\n")
            stdin.flush()
            last = time.monotonic()
            for line in stdout:
                answer = json.loads(line)
                if "say" not in answer:
                    return "done" in answer
                if time.monotonic() - last >= self.interval:
                    last = time.monotonic()
                    self.say(answer["say"])
        except BrokenPipeError:
            pass
        process.wait()
        if not self.stopped:
            with (run.folder / LOG).open("a") as log:
                log.write(f"the process ended with status {process.returncode}\n")
        return False

    def _end(self, run: Run, ok: bool) -> None:
        """Record a run that has ended, and print the progress of the study."""
        if ok:
            self.done.append(run)
        else:
            self.failures.append(Failure(run, _tail(run.folder / LOG)))
            self.say(str(self.failures[-1]))
        left = self.waiting + self.active
        seconds = time.monotonic() - self.start
        # amounts of planned work; active runs count as half done
        half = _work(self.active) / 2
        over = _work(self.done) + _work(failure.run for failure in self.failures) + half
        remaining = _work(self.waiting) + half
        text = f"{self.before + len(self.done)} of {self.total} runs done"
        if self.failures:
            text += f", {len(self.failures)} failed"
        if left:
            text += f", about {describe_seconds(seconds * remaining / over)} left"
        result = run.result if ok else None
        if result:
            text += f" ({run.title}: {result['metric']} {result['score']:.1f}, {describe_seconds(result['seconds'])})"
        self.say(text)


def _work(runs: Iterable[Run]) -> float:
    return sum(run.seconds for run in runs)


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None  # see _start
    return process.stdin, process.stdout


def _start(index: int, workers: int) -> subprocess.Popen[str]:
    """Start a process that does runs, on its share of the cores or on its GPU."""
    threads = str(max(1, usable_cores() // workers))
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if torch.cuda.is_available():
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
        variables["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
    return subprocess.Popen(
        COMMAND,
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    )


def _tail(path: Path) -> list[str]:
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return [line for line in lines if line.strip()][-TAIL:]
