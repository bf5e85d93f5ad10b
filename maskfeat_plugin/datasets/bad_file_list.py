"""List of bad files, in a file that workers, processes and resumed trainings share."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from maskfeat_plugin.files import append_text

try:
    import fcntl
except ImportError:  # Windows: two processes may then list a file twice, which does no harm
    fcntl = None  # type: ignore[assignment]

LIST_NAME = "bad_files.txt"
UNKNOWN = "unknown"
_MISSING = "missing"


class BadFile(NamedTuple):
    """A file in the list, without its path.

    Args:
        reason (str): Why it cannot be read, in one line without tabs.
        state (str, optional): :func:`state_of` the file when it was read. A file that is still in this state cannot be
            read. Defaults to None: it depends on the clip that is drawn, so the file may be tried again.
    """

    reason: str
    state: str | None = None


class BadFileList:
    """Bad files by their paths, as a file lists them.

    A line of the file is a path as :func:`.printable` gives it, a tab, the reason, and with a state another tab and the
    state. The last line of a path counts. If the file is deleted or lines are taken out, their files are no longer bad.

    Args:
        path (Path): The file. It is made with its folder when the first bad file is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, BadFile] = {}
        self._inode, self._bytes_read = 0, 0

    def refresh(self) -> bool:
        """Read what was added since the last call.

        Returns:
            bool: True if something was added.
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
        except OSError as error:  # a list that cannot be read or written: this process knows its own bad files alone
            if isinstance(error, FileNotFoundError) and self._bytes_read:
                self._forget()
            return False
        added = added[: added.rfind(b"\n") + 1]  # another process may be writing the last line
        self._inode, self._bytes_read = status.st_ino, self._bytes_read + len(added)
        found = parse_list(added.decode("utf-8", "surrogateescape"))
        self.files.update(found)
        return bool(found)

    def add(self, found: Mapping[str, BadFile]) -> list[str]:
        """Add files, those that are not listed in their state.

        Args:
            found (Mapping[str, BadFile]): By their paths, as :func:`.printable` gives them.

        Returns:
            list[str]: The paths that the list did not have in any state.

        Raises:
            OSError: If the list cannot be written, as on a full disk. It has the files in this process all the same.
        """
        if not self._lacks(found):
            return []
        new = [path for path in found if path not in self.files]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab") as stream:
                if fcntl is not None:
                    fcntl.flock(stream, fcntl.LOCK_EX)  # until it is closed
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
    """Return the files that a list names. Lists of earlier versions have no states.

    Args:
        text (str): The list.
    """
    rows = (line.split("\t") for line in text.split("\n") if "\t" in line)
    return {path: BadFile(reason, state[0] if state else None) for path, reason, *state in rows}


def state_of(path: str) -> str:
    """Return the size of a file in bytes and the time of its last change in nanoseconds, or ``missing``.

    Args:
        path (str): The file. One that cannot be looked at, such as a URL, is missing.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _MISSING
    return f"{status.st_size} {status.st_mtime_ns}"


def has_changed(path: str, state: str | None) -> bool:
    """Tell whether a file has been replaced or mended. One that is gone has not.

    Args:
        path (str): The file.
        state (str, optional): What :func:`state_of` returned before. Of None and :data:`UNKNOWN` nothing can be told.
    """
    return state not in (None, UNKNOWN) and state_of(path) not in (state, _MISSING)
