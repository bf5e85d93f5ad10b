"""Contents of a user's folder: images or videos, and their classes if there is a folder for each class."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS, find_files, printable
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing

_TRAIN = ("train", "training")
_VAL = ("val", "valid", "validation", "test")


@dataclass(frozen=True)
class FolderContents:
    """Files of one kind below a folder.

    Args:
        folder (Path): The folder.
        kind (str): "image" or "video".
        files (list[Path]): The files to use, sorted by path.
        skipped (str): One line about the files that are not used and the reasons; "" if all are used.
    """

    folder: Path
    kind: str
    files: list[Path]
    skipped: str

    def describe(self) -> str:
        """Return the lines that a command prints: the number of files used, and the files skipped."""
        lines = [f"{printable(self.folder)}: {_count(len(self.files), self.kind)} will be used."]
        if self.skipped:
            lines.append(f"Skipped: {self.skipped}.")
        return "\n".join(lines)


@dataclass(frozen=True)
class LabelledFiles:
    """Files with their classes, for training and for validation.

    Args:
        contents (FolderContents): All the files.
        names (list[str]): Names of the classes; the number of a class is its index in this list.
        train (list[tuple[str, int]]): Path below the folder, with ``/``, and class of each file for training.
        val (list[tuple[str, int]]): Path and class of each file for validation.
    """

    contents: FolderContents
    names: list[str]
    train: list[tuple[str, int]]
    val: list[tuple[str, int]]

    def describe(self) -> str:
        """Return the lines that a command prints: files used and skipped, and the classes."""
        names = ", ".join(map(printable, self.names[:10])) + (", ..." if len(self.names) > 10 else "")
        counts = f"{len(self.train)} for training and {len(self.val)} for validation"
        return f"{self.contents.describe()}\n{len(self.names)} classes ({names}): {counts}."

    def write_lists(self, folder: Path) -> tuple[Path, Path]:
        """Write both lists, with one line for each file: its path and the number of its class.

        Args:
            folder (Path): The folder to write to; it is made if it is missing.

        Returns:
            tuple[Path, Path]: ``train.txt`` and ``val.txt``.

        Raises:
            WriteError: If a list cannot be written.
        """
        paths = folder / "train.txt", folder / "val.txt"
        for path, samples in zip(paths, (self.train, self.val), strict=True):
            with writing(path) as unfinished:
                unfinished.write_text("".join(f"{name} {label}\n" for name, label in samples), encoding="utf-8")
        return paths


def look_into(folder: str | Path, kind: str | None = None) -> FolderContents:
    """Find the images or the videos below a folder.

    Args:
        folder (str | Path): The folder; files may lie at any depth.
        kind (str, optional): "image" or "video". Defaults to None: the kind with more files.

    Returns:
        FolderContents: The files, found by the endings of their names. No file is opened.

    Raises:
        ConfigError: If the folder does not exist or has no file of the kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.is_file() else "does not exist"
        raise ConfigError(f"FOLDER: {printable(folder)} {problem}. Give a folder of images or videos.")
    found = find_files(folder, (*IMAGE_ENDINGS, *VIDEO_ENDINGS))
    files: dict[str, list[Path]] = {IMAGE: [], VIDEO: []}
    for path in found.files:
        files[IMAGE if path.suffix.lower() in IMAGE_ENDINGS else VIDEO].append(path)
    chosen = kind or max(files, key=lambda name: len(files[name]))
    other = VIDEO if chosen == IMAGE else IMAGE
    skipped = [found.describe_skipped()]
    if files[other]:
        skipped.insert(0, f"{_count(len(files[other]), other)} (--kind {other} would use them instead)")
    text = "; ".join(filter(None, skipped))
    if not files[chosen]:
        endings = ", ".join(
            VIDEO_ENDINGS if kind == VIDEO else IMAGE_ENDINGS if kind else (*IMAGE_ENDINGS, *VIDEO_ENDINGS)
        )
        hint = f" Skipped: {text}." if text else ""
        raise ConfigError(f"FOLDER: {printable(folder)} has no files that end in {endings}.{hint}")
    return FolderContents(folder, chosen, files[chosen], text)


def find_classes(folder: str | Path, val_share: float = 0.2, kind: str | None = None) -> LabelledFiles:
    """Find images or videos in a folder that has a subfolder for each class.

    Two layouts are read: ``FOLDER/CLASS/...``, where a share of the files is held out for validation, and
    ``FOLDER/train/CLASS/...`` with ``FOLDER/val/CLASS/...``. The choice of the held-out files depends only on the names
    of the files.

    Args:
        folder (str | Path): The folder.
        val_share (float): Share of each class that is held out, at least one file. Defaults to 0.2.
        kind (str, optional): See :func:`look_into`. Defaults to None.

    Returns:
        LabelledFiles: The files with their classes.

    Raises:
        ConfigError: If there are fewer than two classes, a class has no file for training or for validation, or a list
            cannot hold the name of a file.
    """
    contents = look_into(folder, kind)
    names = [path.relative_to(contents.folder).as_posix() for path in contents.files]
    _check_names(names)
    tops = {name.split("/")[0] for name in names if "/" in name}
    train_folder = next((name for name in _TRAIN if name in tops), None)
    val_folder = next((name for name in _VAL if name in tops), None)
    if train_folder and val_folder:
        train, val = (_by_class(names, f"{top}/") for top in (train_folder, val_folder))
    else:
        train, val = _hold_out(_by_class(names, ""), val_share)
    classes = sorted(train)
    if len(classes) < 2:
        raise ConfigError(
            f"FOLDER: {printable(contents.folder)} has {len(classes)} folders of classes, and two are needed. Put the "
            "files into a folder for each class: FOLDER/CLASS/, or FOLDER/train/CLASS/ and FOLDER/val/CLASS/."
        )
    if sorted(val) != classes:
        odd = printable(sorted(set(val) ^ set(classes))[0])
        split = "train" if odd in val else "validation"
        raise ConfigError(f"FOLDER: the class {odd!r} has no files for {split}. Add some, or remove the class.")
    numbers = {name: number for number, name in enumerate(classes)}
    used = sum(map(len, train.values())) + sum(map(len, val.values()))
    skipped = [contents.skipped] if contents.skipped else []
    if used < len(names):
        skipped.insert(0, f"{len(names) - used} that are not in the folder of a class")
        inside = {name for part in (train, val) for files in part.values() for name in files}
        files = [path for path, name in zip(contents.files, names, strict=True) if name in inside]
        contents = FolderContents(contents.folder, contents.kind, files, "; ".join(skipped))
    listed = ([(name, numbers[key]) for key in classes for name in part[key]] for part in (train, val))
    return LabelledFiles(contents, classes, *listed)


def _by_class(names: list[str], prefix: str) -> dict[str, list[str]]:
    """Group the files below a folder by the name of the next folder in their paths."""
    classes: dict[str, list[str]] = {}
    for name in names:
        top, _, rest = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and rest:
            classes.setdefault(top, []).append(name)
    return classes


def _hold_out(classes: dict[str, list[str]], share: float) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Divide each class into files for training and for validation. Equal names give an equal division."""
    train, val = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise ConfigError(f"FOLDER: the class {printable(name)!r} has one file, and two are needed. Add files.")
        shuffled = files.copy()
        random.Random(name).shuffle(shuffled)
        held_out = set(shuffled[: min(max(1, round(share * len(files))), len(files) - 1)])
        train[name] = [file for file in files if file not in held_out]
        val[name] = sorted(held_out)
    return train, val


def _check_names(names: list[str]) -> None:
    """Refuse names that a UTF-8 list with one line per file cannot hold."""
    for name in names:
        try:
            os.fsencode(name).decode("utf-8")
        except UnicodeDecodeError:
            problem = "is not UTF-8"
        else:
            problem = "has a line break or a space at its end" if name != " ".join(name.splitlines()).strip() else ""
        if problem:
            raise ConfigError(f"FOLDER: the name of the file {printable(name)} {problem}. Rename it.")


def _count(number: int, kind: str) -> str:
    return f"{number:,} {kind}{'' if number == 1 else 's'}"
