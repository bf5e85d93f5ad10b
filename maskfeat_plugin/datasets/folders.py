"""Search for data files below folders: the endings that all tools and data sets read, and the skipped files."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Both OpenCV and Pillow read these.
IMAGE_ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".webp",
)
VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp")
SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")
VOLUME_ENDINGS = (".npy",)
FILE, FOLDER = "file", "folder"
# Number of files and endings that a message names
_NAMED = 5


@dataclass
class FoundFiles:
    """Files below a folder.

    Args:
        files (list[Path]): Files with one of the endings, sorted by path.
        others (list[Path]): Files with other endings.
        `hidden` (list[Path]): Files with one of the endings whose names begin with a dot, such as ``._a.jpg`` of macOS.
        broken (list[tuple[Path, str]]): Links, files and folders that cannot be read, each with the reason.
    """

    files: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)

    def describe_skipped(self) -> str:
        """Describe the skipped files and the reasons in one line; return "" if none was skipped."""
        counts = Counter(path.suffix.lower() or "no ending" for path in self.others).most_common()
        endings = ", ".join(f"{name}: {count}" for name, count in counts[:_NAMED])
        more = f", and {len(counts) - _NAMED} more" if len(counts) > _NAMED else ""
        parts = [f"{len(self.others)} of another ending ({endings}{more})"] if self.others else []
        parts += [f"{len(self.hidden)} hidden file(s) (a dot first)"] if self.hidden else []
        parts += [f"{printable(path)} ({reason})" for path, reason in self.broken[:_NAMED]]
        if len(self.broken) > _NAMED:
            parts.append(f"{len(self.broken) - _NAMED} more that cannot be read")
        return "; ".join(parts)


def find_files(folder: str | Path, endings: Sequence[str], follow_links: bool = False) -> FoundFiles:
    """Find files below a folder, at any depth, by the endings of their names.

    Args:
        folder (str | Path): The folder.
        endings (Sequence[str]): Endings in lower case, with their dot.
        follow_links (bool): Whether to look into folders that are links. Defaults to False: such folders are skipped.

    Returns:
        FoundFiles: The found and the skipped files. Hidden folders (their names begin with a dot) are ignored.
    """
    found = FoundFiles()
    todo, seen = [os.fspath(folder)], set()
    while todo:
        here = todo.pop()
        if os.path.realpath(here) in seen:  # visited before through another link
            continue
        seen.add(os.path.realpath(here))
        try:
            with os.scandir(here) as listing:
                entries = list(listing)
        except OSError as error:
            found.broken.append((Path(here), f"folder: {error.strerror or error}"))
            continue
        for entry in entries:
            path, kind = Path(entry.path), kind_of(entry)
            fits = path.suffix.lower() in endings
            if entry.name.startswith("."):
                found.hidden += [path] * (fits and kind == FILE)
            elif kind == FILE:
                (found.files if fits else found.others).append(path)
            elif kind == FOLDER and (follow_links or not entry.is_symlink()):
                todo.append(entry.path)
            else:
                found.broken.append((path, "link to a folder" if kind == FOLDER else kind))
    for part in (found.files, found.others, found.broken):
        part.sort()
    return found


def kind_of(entry: os.DirEntry) -> str:
    """Distinguish files, folders, and links to nothing.

    Args:
        entry (os.DirEntry): An entry of a folder.

    Returns:
        str: :data:`FILE`, :data:`FOLDER`, or the reason why it is neither.
    """
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return FILE
        entry.stat()
    except FileNotFoundError:
        return "dangling link"
    except OSError as error:  # a link that leads to itself
        return error.strerror or str(error)
    return "no file"


def as_utf8(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, for text files, which can contain only UTF-8.

    Args:
        name (str): The name.

    Returns:
        str: The name, with escapes as in Python and JSON; unchanged if it is UTF-8.
    """
    if name.isascii():  # avoids a copy, which matters for millions of names
        return name
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(path: str | Path) -> str:
    r"""Escape the characters of a path that cannot be in a line of text: control characters, and bytes not in UTF-8.

    Args:
        path (str | Path): The path.

    Returns:
        str: The path, with escapes as in Python and JSON: ``a\tb\udcff.jpg``.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fspath(path))
