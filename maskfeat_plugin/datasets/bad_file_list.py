"""List of bad files, in a file that workers, processes and resumed trainings share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from maskfeat_plugin.files import append_text

try:
    import fcntl
except ImportError:  # Windows: without locks two processes may list the same file twice, which is harmless
    fcntl = None  # type: ignore[assignment]

LIST_NAME = "bad_files.txt"
UNKNOWN = "unknown"
_MISSING = "missing"


class BadFile(NamedTuple):
    """Entry of a list of bad files, without the path.

    Args:
        reason (str): The reason why the file cannot be read, in one line without tabs.
        state (str, optional): The result of :func:`state_of` when the file was read. As long as the file has this
            state, it cannot be read. Defaults to None: success depends on the drawn clip, so the file may be tried
            again.
    """

    reason: str
    state: str | None = None


class BadFileList:
    """Bad files by their paths, read from and written to a list file.

    A line of the list is a path in the form of :func:`.printable`, a tab and the reason. If the file has a state,
    another tab and the state follow. The last line of a path counts. If the list is deleted, or lines are removed from
    it, those files are no longer bad.

    Args:
        path (Path): The list. It is created with its folder when the first bad file is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, BadFile] = {}
        self._inode, self._bytes_read = 0, 0

    def refresh(self) -> bool:
        """Read the lines that were added since the last call.

        Returns:
            bool: True if there were new lines.
        """
        try:
            status = os.stat(self.path)
            if self._bytes_read and (status.st_ino != self._inode or status.st_size < self._bytes_read):
                self._forget()
            if status.st_size == self._bytes_read:
                return False
            with open(self.path, "rb") as file:
                file.seek(self._bytes_read)
                added = file.read()
        except OSError as error:  # the list cannot be read or written: use only the bad files of this process
            if isinstance(error, FileNotFoundError) and self._bytes_read:
                self._forget()
            return False
        added = added[: added.rfind(b"\n") + 1]  # another process may be writing the last line
        self._inode, self._bytes_read = status.st_ino, self._bytes_read + len(added)
        found = parse_list(added.decode("utf-8", "surrogateescape"))
        self.files.update(found)
        return bool(found)

    def add(self, found: Mapping[str, BadFile]) -> list[str]:
        """Add files to the list, except files that it already has in the same state.

        Args:
            found (Mapping[str, BadFile]): The files by their paths, which have the form of :func:`.printable`.

        Returns:
            list[str]: The paths that the list did not have in any state.

        Raises:
            OSError: If the list cannot be written, for example on a full disk. In this process it has the files anyway.
        """
        if not self._lacks(found):
            return []
        new = [path for path in found if path not in self.files]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as stream:
                if fcntl is not None:
                    fcntl.flock(stream, fcntl.LOCK_EX)  # until the stream is closed
                self.refresh()
                new = [path for path in found if path not in self.files]
                lines = ("\t".join(filter(None, (path, *found[path]))) for path in self._lacks(found))
                append_text(self.path, "".join(f"{line}\n" for line in lines))
            self.refresh()
        except OSError:
            self.files.update(found)
            raise
        return new

    def _lacks(self, found: Mapping[str, BadFile]) -> list[str]:
        return [
            path
            for path, file in found.items()
            if path not in self.files or file.state not in (None, self.files[path].state)
        ]

    def _forget(self) -> None:
        self.files.clear()
        self._bytes_read = 0


def parse_list(text: str) -> dict[str, BadFile]:
    """Parse the text of a list. Lists of earlier versions have no states.

    Args:
        text (str): The text.
    """
    rows = (line.split("\t") for line in text.split("\n") if "\t" in line)
    return {path: BadFile(reason, state[0] if state else None) for path, reason, *state in rows}


def state_of(path: str) -> str:
    """Return the size of a file in bytes and the time of its last change in nanoseconds, or ``missing``.

    Args:
        path (str): The file. A file without such properties, for example a URL, counts as missing.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _MISSING
    return f"{status.st_size} {status.st_mtime_ns}"


def has_changed(path: str, state: str | None) -> bool:
    """Check whether a file has been replaced or repaired. A file that no longer exists counts as unchanged.

    Args:
        path (str): The file.
        state (str, optional): An earlier result of :func:`state_of`. With None and :data:`UNKNOWN`, the result is
            False.
    """
    return state not in (None, UNKNOWN) and state_of(path) not in (state, _MISSING)
