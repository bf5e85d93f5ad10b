"""Steps in the preparation of every data set. In a dry run, a step only prints its work."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import append_text, naming

from .archives import Archive, read_member, unpack
from .completeness import Report
from .files import Tree, place, write_file
from .parallel import Item, Result, run_parallel

# Number of broken links and folders that a report names
_NAMED = 20
CRASHED = "it ends the process that decodes it"


@dataclass(frozen=True)
class DataSettings:
    """Settings of the preparation of any data set.

    Args:
        sources (tuple[Path, ...]): Folders or files of the official downloads.
        root (Path): The folder for the prepared data.
        check (str): How thoroughly files are read: "none", "fast" or "full", see :mod:`.readable`. Defaults to "fast".
        move (bool): Whether to move files instead of linking to them. Defaults to False.
        workers (int): Number of processes that read files. Defaults to 1.
        dry_run (bool): Whether to only print the work. Defaults to False.
        progress (bool): Whether to show progress. Defaults to True.
    """

    sources: tuple[Path, ...]
    root: Path
    check: str = "fast"
    move: bool = False
    workers: int = 1
    dry_run: bool = False
    progress: bool = True


class Workspace:
    """Steps that find, bring, check and list files, and fill the report.

    Args:
        settings (DataSettings): The settings of the user.
        dataset (str): Name of the data set.
        **options (str | int | None): Settings of this data set only, for the report.

    Raises:
        ConfigError: If a source does not exist.
    """

    def __init__(self, settings: DataSettings, dataset: str, **options: str | int | None) -> None:
        for source in settings.sources:
            if not source.exists():
                raise ConfigError(f"SOURCE {source} is not there.")
        self.settings = settings
        self.root = settings.root
        asked = dict(sources=[str(s) for s in settings.sources], check=settings.check, move=settings.move, **options)
        self.report = Report(dataset, str(settings.root), asked, settings.dry_run)
        # folders that a dry run would unpack, so their files are unknown
        self.pending: list[Path] = []
        self._checked = self.root / f".{dataset}_checked.txt"

    def scan(self, *also: str, skip: str | None = None) -> Tree:
        """Find all files and folders in the sources.

        Args:
            *also (str): Folders in the root to search too, if they exist.
            skip (str, optional): See :class:`Tree`. Defaults to None.
        """
        with self.report.timed("find"):
            tree = Tree([*self.settings.sources, *(self.root / a for a in also if (self.root / a).exists())], skip)
        for text in tree.broken[:_NAMED]:
            self.report.warn(f"left out: {text}")
        if len(tree.broken) > _NAMED:
            self.report.warn(f"left out, and {len(tree.broken) - _NAMED} more links and folders that cannot be read.")
        return tree

    def places(self) -> str:
        """Return the sources, for a message."""
        return ", ".join(map(str, self.settings.sources))

    def bring(
        self,
        target: Path,
        folders: Sequence[Path] = (),
        archives: Sequence[Archive] = (),
    ) -> Path | None:
        """Bring a folder into the root: the first existing folder, or the unpacked archives.

        Args:
            target (Path): The place of the folder. If there is no folder and no archive, an existing one is used as it
                is.
            folders (Sequence[Path]): Folders to link to or move. Defaults to ().
            archives (Sequence[Archive]): Archives to unpack. Defaults to ().

        Returns:
            Path | None: The current folder of the files; None if there is none.
        """
        if len(folders) > 1:
            self.report.warn(f"{target.name}: {folders[0]} is used, {', '.join(map(str, folders[1:]))} is not.")
        if folders:
            self.report.used[target.name] = str(folders[0])
            self.place(folders[0], target)
            return target if target.exists() else folders[0]
        if not archives:
            return target if target.exists() else None
        if target.exists():
            unpack(archives, target)  # only compares the archive's beginning and end with the unpacked one's
            return target
        shown = str(archives[0][0]) + (f" and {len(archives) - 1} more" if len(archives) > 1 else "")
        self.report.used[target.name] = shown
        if self.settings.dry_run:
            self.say(f"unpack {shown} into {target}")
            self.pending.append(target)
            return target
        with self.report.timed("unpack"):
            unpack(archives, target, self.settings.progress)
        return target

    def place(self, source: Path, target: Path) -> None:
        """Link to or move a file or a folder, see :func:`place`."""
        if not self.settings.dry_run:
            place(source, target, self.settings.move)
        elif os.path.realpath(source) != os.path.realpath(target):
            self.say(f"move {source} to {target}" if self.settings.move else f"link {target} to {source}")

    def place_all(self, sources: Mapping[Path, Path], what: str) -> None:
        """Place many files. ``sources`` maps targets to sources. A dry run prints the description ``what`` instead."""
        if self.settings.dry_run:
            self.say(f"{'move' if self.settings.move else 'link'} {len(sources)} {what}")
            return
        with self.report.timed("place"):
            for target, source in sources.items():
                place(source, target, self.settings.move)

    def read(self, tree: Tree, names: Sequence[str], archives: Sequence[str] = ()) -> tuple[bytes, Path] | None:
        """Read a small file, directly or from an archive.

        Args:
            tree (Tree): The files to search.
            names (Sequence[str]): Possible names of the file, usually an older and a newer one.
            archives (Sequence[str]): Names of archives that may contain it. Defaults to ().

        Returns:
            tuple[bytes, Path] | None: The content, and the file or archive that it comes from; None if there is none.
        """
        path = tree.find_file(*names)
        if path is not None:
            self.report.used[names[0]] = str(path)
            return path.read_bytes(), path
        archive = tree.find_file(*archives)
        if archive is None:
            return None
        for name in names:
            content = read_member([archive], name)
            if content is not None:
                self.report.used[names[0]] = f"{archive}: {name}"
                return content, archive
        return None

    def check(self, files: Sequence[str], function: Callable[..., str | None], title: str) -> dict[str, str]:
        """Read files in parallel. Files that an earlier run could read and that have not changed are not read again.

        Args:
            files (Sequence[str]): The files.
            function (Callable[..., str | None]): Function that returns why a path cannot be read at a ``level``, or
                None.
            title (str): Beginning of the progress bar.

        Returns:
            dict[str, str]: Path -> reason, for the unreadable files.
        """
        level = self.settings.check
        if level == "none":
            return {}
        if self.settings.dry_run:
            self.say(f"read {len(files)} files of {title} ({level})")
            return {}
        with self.report.timed("check"):
            known = (
                set(self._checked.read_text("utf-8", "surrogateescape").splitlines())
                if self._checked.is_file()
                else set()
            )
            signatures = {path: _signature(path) for path in files}
            todo = [p for p, s in signatures.items() if not {f"{level} {s}", f"full {s}"} & known]
            unreadable = {}
            self.root.mkdir(parents=True, exist_ok=True)
            for path, reason in self.parallel(partial(function, level=level), todo, title, crashed=CRASHED):
                if reason is None:
                    with naming(self._checked):
                        append_text(self._checked, f"{level} {signatures[path]}\n")
                else:
                    unreadable[path] = reason
        return unreadable

    def parallel(
        self, function: Callable[[Item], Result], items: Sequence[Item], title: str, **options: Any
    ) -> Iterator[tuple[Item, Result]]:
        """Call :func:`run_parallel` with the settings."""
        return run_parallel(
            function, items, workers=self.settings.workers, title=title, progress=self.settings.progress, **options
        )

    def write(self, path: Path, content: str | bytes, sources: Sequence[Path] = ()) -> None:
        """Write a file, see :func:`write_file`."""
        if self.settings.dry_run:
            self.say(f"write {path}")
        else:
            write_file(path, content.encode() if isinstance(content, str) else content, sources)

    def write_list(self, path: Path, split: str, labels: Mapping[str, int], sources: Sequence[Path] = ()) -> None:
        """Write a list with a line "name label" for each sample, sorted by name, except names that it cannot hold.

        Args:
            path (Path): The list.
            split (str): The split whose samples are counted.
            labels (Mapping[str, int]): Name -> class.
            sources (Sequence[Path]): See :func:`write_file`. Defaults to ().
        """
        found = self.report.split(split)
        reasons = {name: _why_not_listed(name) for name in sorted(labels)}
        found.left_out.update((name, reason) for name, reason in reasons.items() if reason)
        lines = [f"{name} {labels[name]}\n" for name, reason in reasons.items() if not reason]
        found.listed = len(lines)
        self.write(path, "".join(lines), sources)

    def say(self, text: str) -> None:
        """Print a step of a dry run."""
        print(f"would {text}")

    def finish(self) -> Report:
        """Write the report.

        Raises:
            ConfigError: If no split has any sample.
        """
        if self.pending:
            self.say(f"read the unpacked files ({self.settings.check}), write the lists and {self.report.file_name}")
            return self.report
        self.write(self.root / self.report.file_name, self.report.to_json())
        if not any(split.listed for split in self.report.splits.values()):
            raise ConfigError(
                f"nothing of {self.report.dataset} can be used: {'; '.join(self.report.problems()[:3])}"
                + ("." if self.settings.dry_run else f"; see {self.root / self.report.file_name}.")
            )
        return self.report


def _why_not_listed(name: str) -> str | None:
    """Return the reason why a line of a list cannot begin with a name, or None."""
    if name != name.strip() or len(name.splitlines()) > 1:
        return "a list cannot hold a name with a line break or a blank at its ends"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    return None


def _signature(path: str) -> str:
    """Return a text that changes with the content of a file."""
    try:
        info = os.stat(path)
    except OSError:
        return f"0 0 {path}"
    return f"{info.st_size} {info.st_mtime_ns} {path}"
