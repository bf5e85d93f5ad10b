"""Report of the found and the missing samples of a data set, for people and for programs."""

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version

_NAMED = 5  # number of names of each kind in the summary; the report file has all names
_PACKAGES = ("maskfeat_plugin", "decord", "av", "numpy", "opencv-python", "pillow")


@dataclass
class Split:
    """Samples of one split: training or validation.

    Args:
        expected (int, optional): The number of samples that there should be. Defaults to None, unknown.
        listed (int): The number of samples that the configs will use. Defaults to 0.
        missing (list[str]): Names of the missing samples.
        unreadable (dict[str, str]): Name -> reason.
        left_out (dict[str, str]): Name -> reason, for readable samples that no list can contain.
    """

    expected: int | None = None
    listed: int = 0
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def counts(self) -> str:
        """Return the numbers in words."""
        text = f"{self.listed}" if self.expected is None else f"{self.listed} of {self.expected}"
        lacking = [
            f"{len(names)} {kind}"
            for kind, names in (
                ("missing", self.missing),
                ("unreadable", self.unreadable),
                ("left out", self.left_out),
            )
            if names
        ]
        return ", ".join([f"{text} listed", *lacking])

    def is_complete(self) -> bool:
        """Return whether all expected samples are listed."""
        lacks = self.missing or self.unreadable or self.left_out
        return not lacks and self.expected in (None, self.listed)


class Report:
    """Report that is filled while a data set is prepared.

    Args:
        dataset (str): Name of the data set.
        root (str): The folder of the prepared data.
        settings (dict): The settings of the user: strings and numbers.
        dry_run (bool): Whether nothing is done. Defaults to False.
    """

    def __init__(self, dataset: str, root: str, settings: dict, dry_run: bool = False) -> None:
        self.dataset = dataset
        self.root = root
        self.settings = settings
        self.dry_run = dry_run
        self.splits: dict[str, Split] = {}
        self.warnings: list[str] = []
        self.used: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    @property
    def file_name(self) -> str:
        """Name of the report file in the root."""
        return f"{self.dataset}_report.json"

    def split(self, name: str) -> Split:
        """Return a split. Create it if it does not exist."""
        return self.splits.setdefault(name, Split())

    def warn(self, text: str) -> None:
        """Add a warning, unless it was added before."""
        if text not in self.warnings:
            self.warnings.append(text)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the duration of the block to the seconds of a kind of work."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 3)

    def problems(self) -> list[str]:
        """Return the incomplete splits and the warnings."""
        incomplete = [f"{name}: {split.counts()}" for name, split in self.splits.items() if not split.is_complete()]
        return incomplete + self.warnings

    def to_json(self) -> str:
        """Return the whole report as JSON."""
        content = dict(
            dataset=self.dataset,
            root=self.root,
            settings=self.settings,
            used=self.used,
            splits={name: asdict(split) for name, split in self.splits.items()},
            warnings=self.warnings,
            problems=self.problems(),
            seconds=self.seconds,
            versions=_versions(),
        )
        return _writable(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"

    def summary(self) -> str:
        """Return the report in a few lines."""
        lines = [f"{self.dataset} in {self.root}{' (dry run, nothing was written)' if self.dry_run else ''}"]
        lines += [f"  {name:<6} {split.counts()}" for name, split in self.splits.items()]
        lines += [f"warning: {text}" for text in self.warnings]
        for name, split in self.splits.items():
            reasons = {**dict.fromkeys(split.missing, "missing"), **split.unreadable, **split.left_out}
            lines += [
                f"  {name}: {sample if sample.isprintable() else ascii(sample)}: {reason}"
                for sample, reason in list(reasons.items())[:_NAMED]
            ]
            if len(reasons) > _NAMED:
                lines.append(f"  {name}: and {len(reasons) - _NAMED} more")
        if not self.dry_run:
            lines.append(f"report: {self.root}/{self.file_name}")
        return _writable("\n".join(lines))


def _writable(text: str) -> str:
    """Escape, as in JSON, the bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # several packages provide OpenCV
            continue
    return found
