"""Reader of the text log of a run: its times, its machine, and its messages."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from maskfeat_plugin.running.versions import MACHINE, VERSIONS, parse_versions

from .damage import as_count, left_out, parse_count

_ENTRY = re.compile(r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - \S+ - (?:\x1b\[\d+m)?([A-Z]+)(?:\x1b\[0m)? - (.*)")
_FACT = re.compile(r" {4}([^:]+): (.*)")
_EPOCH = re.compile(r"Epoch\(train\)\s*\[(\d+)\]\[\s*\d+/(\d+)\]")
_ITERATION = re.compile(r"Iter\(train\)\s*\[\s*\d+/(\d+)\]")
_SAVED = re.compile(r"Saving checkpoint at (\d+) (epochs|iterations)")
_RESUMED = re.compile(r"resumed epoch: \d+, iter: (\d+)")
_TERMINATED = "--resume goes on from there"
# Facts about the environment that are not useful on the page, or that are shown elsewhere
_LEFT_OUT = ("PyTorch compiling details", "MUSA available", "numpy_random_seed")
_TIME = "%Y/%m/%d %H:%M:%S"


@dataclass
class TextLog:
    """Content of a text log.

    Args:
        facts (dict[str, str]): Versions and machine, by name.
        begin (datetime, optional): Time of the first entry.
        end (datetime, optional): Time of the last entry.
        epoch_length (int, optional): Number of iterations of an epoch, if the training counts epochs.
        length (int, optional): Number of iterations of the training, if it counts iterations.
        saved (int): Iteration of the last checkpoint; 0 if there is none.
        resumed (int, optional): Iteration of the checkpoint from which the run was resumed.
        terminated (str): Message of the run when a signal ended it.
        warnings (list[str]): Warnings and errors, each once.
    """

    facts: dict[str, str] = field(default_factory=dict)
    begin: datetime | None = None
    end: datetime | None = None
    epoch_length: int | None = None
    length: int | None = None
    saved: int = 0
    resumed: int | None = None
    terminated: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds from the first to the last entry; 0 if the clock was set back."""
        return max(0.0, (self.end - self.begin).total_seconds()) if self.begin and self.end else 0.0


def read_text_log(path: Path) -> TextLog:
    """Read a text log of mmengine.

    Args:
        path (Path): The file. Its training may still be running, and the file may be missing.

    Returns:
        TextLog: The content; empty if the file is missing.
    """
    log = TextLog()
    if not path.is_file():
        return log
    warnings: dict[str, None] = {}
    in_environment = False
    first = last = ""
    with left_out(path), path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            entry = _ENTRY.match(line)
            if entry is None:
                in_environment |= line.startswith("System environment:")
                fact = _FACT.match(line) if in_environment else None
                if fact and fact[1] not in _LEFT_OUT and not fact[2].startswith("{"):
                    log.facts[fact[1]] = fact[2].strip()
                continue
            in_environment = False
            first, last = first or entry[1], entry[1]
            _read_entry(log, entry[3])
            if entry[2] in ("WARNING", "ERROR", "CRITICAL"):
                warnings.setdefault(entry[3])
    if first:
        with left_out(path, "has an entry without a time"):
            log.begin = datetime.strptime(first, _TIME)
            log.end = datetime.strptime(last, _TIME)
    log.warnings = list(warnings)
    return log


def _read_entry(log: TextLog, text: str) -> None:
    if "(train)" in text:
        if found := _EPOCH.search(text):
            log.epoch_length = parse_count(found[2])
        elif found := _ITERATION.search(text):
            log.length = parse_count(found[1])
    elif found := _SAVED.match(text):
        unit = 1 if found[2] == "iterations" else log.epoch_length or 0
        log.saved = as_count((parse_count(found[1]) or 0) * unit) or log.saved
    elif found := _RESUMED.match(text):
        log.resumed = parse_count(found[1])
    elif text.startswith(VERSIONS):
        log.facts |= parse_versions(text)
    elif text.startswith(MACHINE):
        log.facts["machine"] = text.removeprefix(MACHINE)
    elif _TERMINATED in text:
        log.terminated = text
