"""The demo's page while the demo runs."""

import time
from collections.abc import Sequence
from pathlib import Path

from maskfeat_plugin.running.log_streams import quiet

from .report_page import make_report
from .tasks import PRETRAININGS, Plan, Task
from .train import Say, read_json, results_file


class Page:
    """Page of a running demo. It is written again whenever a part of the demo has new results.

    Args:
        plan (Plan): Size of the demo.
        tasks (Sequence[Task]): The tasks.
        work_dir (Path): Folder that the demo writes to.
        data_root (Path): Root of MovingDigits.
        say (Callable[[str], None]): Prints a line when the page exists for the first time.
    """

    def __init__(self, plan: Plan, tasks: Sequence[Task], work_dir: Path, data_root: Path, say: Say) -> None:
        self.plan = plan
        self.tasks = tasks
        self.work_dir = work_dir
        self.data_root = data_root
        self.say = say
        self.path = work_dir / "report.html"
        self._start = time.monotonic()
        self._files = {
            name: results_file(work_dir, pretraining)
            for name, pretraining in PRETRAININGS.items()
            if any(task.pretraining.name == name for task in tasks)
        }
        self._written: dict[str, int] = {}

    @property
    def minutes(self) -> float:
        """Minutes since the start."""
        return (time.monotonic() - self._start) / 60

    def clear(self) -> None:
        """Remove the page and the results of an earlier demo."""
        for file in (self.path, *self._files.values()):
            file.unlink(missing_ok=True)
        self._written = {}

    def write(self) -> dict[str, dict]:
        """Write the page and return the results on it, by the name of the pre-training."""
        self._written = self._times()
        results = {name: read_json(self._files[name]) for name in self._written}
        with quiet():
            make_report(results, self.plan, self.tasks, self.work_dir, 60 * self.minutes, self.data_root)
        return results

    def update(self) -> None:
        """Write the page if there are new results. The first time, print its path."""
        if self._times() != self._written:
            first = not self.path.exists()
            self.write()
            if first:
                self.say(f"First predictions: {self.path}. Reload the page for more while the demo runs.")

    def _times(self) -> dict[str, int]:
        return {name: file.stat().st_mtime_ns for name, file in self._files.items() if file.is_file()}
