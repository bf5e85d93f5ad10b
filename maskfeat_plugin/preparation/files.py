"""Functions that find, place and write files. None of them leaves a half-written file."""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskfeat_plugin.datasets.folders import FILE, FOLDER, kind_of, printable
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import naming, unfinished_path, writing

# If a user's file is in the place of a list, its content is kept under this ending.
ORIGINAL = ".orig"
ARCHIVE_ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")


class Tree:
    """Files and folders below some folders, by their names.

    Links are followed. A folder with several paths is found once. So is a file, unless its names differ. Names that
    begin with a dot are ignored.

    Args:
        folders (Iterable[Path]): The folders to search, in this order. They are part of the result, and may be files.
        skip (str, optional): Regular expression for the names of folders that are found, but not searched. Defaults to
            None.
    """

    def __init__(self, folders: Iterable[Path], skip: str | None = None) -> None:
        self.files: dict[str, list[Path]] = defaultdict(list)
        self.folders: dict[str, list[Path]] = defaultdict(list)
        self._skip = re.compile(skip) if skip else None
        self.broken: list[str] = []  # links and folders that cannot be read, and the reasons
        self._seen: set[str] = set()
        for folder in folders:
            path = Path(os.path.abspath(folder))
            if path.is_dir():
                self._add_folder(path.name, os.path.realpath(path))
            else:
                self._add_file(path.name, str(path))

    def find_file(self, *names: str) -> Path | None:
        """Return the first file with the first existing name, or the original of that file; None without any."""
        for name in names:
            for path in self.files.get(name, ()):
                original = path.with_name(path.name + ORIGINAL)
                return original if original.is_file() else path
        return None

    def ending(self, endings: tuple[str, ...]) -> list[Path]:
        """Return the files whose names have one of the endings, sorted by path."""
        found = (paths for name, paths in self.files.items() if name.lower().endswith(endings))
        return sorted(path for paths in found for path in paths)

    def _add_folder(self, name: str, folder: str) -> None:
        if folder in self._seen:
            return
        self._seen.add(folder)
        self.folders[name].append(Path(folder))
        if self._skip and self._skip.fullmatch(name):
            return
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            self.broken.append(f"{printable(folder)} (folder: {error.strerror or error})")
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            kind = kind_of(entry)
            if kind == FOLDER:
                self._add_folder(entry.name, os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
            elif kind == FILE:
                self._add_file(entry.name, entry.path)
            else:
                self.broken.append(f"{printable(entry.path)} ({kind})")

    def _add_file(self, name: str, path: str) -> None:
        others = self.files[name]
        if not any(os.path.samefile(path, other) for other in others):
            others.append(Path(path))


def list_names(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """Return the names of the files in a folder that have one of the endings, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.lower().endswith(endings))


def decode_text(content: bytes, path: Path) -> str:
    """Decode the text of a table or list, with or without a byte order mark.

    Raises:
        ConfigError: If the text is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 ({error}). Convert it.") from error


def place(source: Path, target: Path, move: bool) -> None:
    """Bring a file or a folder to a place, by a link or by moving it. If it is there already, nothing changes.

    Args:
        source (Path): The file or folder. If it is a link, its target is linked to and not moved.
        target (Path): The place.
        move (bool): Whether to move it.

    Raises:
        ConfigError: If another file is in that place, or if the copy to another file system fails, for example on a
            full disk.
    """
    move = move and not source.is_symlink()
    if os.path.realpath(source) == os.path.realpath(target) and not (move and target.is_symlink()):
        return
    if target.exists() and not target.is_symlink():
        raise ConfigError(f"{target} is there already and is not {source}. Move it away, or give its folder as SOURCE.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_path(target)
    _remove(unfinished)
    if not move:
        unfinished.symlink_to(os.path.realpath(source))
        os.replace(unfinished, target)
        return
    target.unlink(missing_ok=True)  # an older link
    try:
        os.rename(source, target)
    except OSError:  # another file system: keep the source until the copy is complete
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        try:
            with naming(target):
                copy(source, unfinished)
                os.replace(unfinished, target)
        except BaseException:
            _remove(unfinished)
            raise
        _remove(source)


def write_file(path: Path, content: bytes, sources: Sequence[Path] = ()) -> None:
    """Write a file in one step. If its content was made from the file itself, keep the old one with ending ``.orig``.

    Args:
        path (Path): The file.
        content (bytes): Its new content.
        sources (Sequence[Path]): Files that the content was made from. Defaults to ().

    Raises:
        WriteError: If the file cannot be written, for example on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not path.is_symlink():
        if path.read_bytes() == content:
            return
        if any(os.path.realpath(source) == os.path.realpath(path) for source in sources):
            os.replace(path, path.with_name(path.name + ORIGINAL))
    with writing(path) as unfinished:
        unfinished.write_bytes(content)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
