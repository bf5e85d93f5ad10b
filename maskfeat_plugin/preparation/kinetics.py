"""Kinetics-400, -600 and -700: videos in folders of their classes, and lists of the readable ones."""

import csv
import io
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS
from maskfeat_plugin.errors import ConfigError, reading

from .completeness import Report
from .files import ARCHIVE_ENDINGS, Tree, decode_text
from .readable import check_video
from .workspace import DataSettings, Workspace

VERSIONS = (400, 600, 700)
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": None}
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_UNPACKED = "unpacked"
_NO_NAME = re.compile(r"[\x00-\x1f/]")
_LENGTH = 200  # maximum number of characters of a file name


class Clip(NamedTuple):
    """Row of the annotations."""

    label: str
    name: str  # of the file, without its ending

    @property
    def folder(self) -> str:
        """Class as part of a path, without spaces: mmaction2's lists end a path at the first space."""
        return re.sub(r"[\s/]+", "_", self.label)


def prepare_kinetics(settings: DataSettings, version: int) -> Report:
    """Prepare Kinetics for ``mmaction.VideoDataset``: ``videos_{train,val}/CLASS/CLIP`` and a list of each split.

    Classes are numbered in the order of their names.

    Args:
        settings (DataSettings): The settings of the user.
        version (int): 400, 600 or 700.

    Returns:
        Report: The found and the missing samples.

    Raises:
        ConfigError: If a necessary file is missing or has another form.
    """
    name = f"kinetics{version}"
    work = Workspace(settings, name)
    placed = [f"videos_{split}" for split in ("train", "val")]
    tree = work.scan(_UNPACKED, *placed)
    for target, archive in _archives(tree, work.root / _UNPACKED).items():
        work.bring(target, archives=[[archive]])
    if work.pending:
        return work.finish()
    tree = work.scan(_UNPACKED, *placed)
    clips = _read_clips(tree, work)
    work.report.used["annotations"] = ", ".join(str(path) for path in tree.ending((".csv",)))
    classes = sorted({clip.label for split in clips.values() for clip in split})
    if len(classes) > version:
        raise ConfigError(f"--version {version}: the .csv files have {len(classes)} classes, so they are not {name}'s.")
    if len(classes) < version:
        work.report.warn(f"there are {len(classes)} classes, not {version}: their numbers are not {name}'s.")
    videos = _find_videos(tree)
    unreadable = _check(work, clips, videos)
    for split in ("train", "val"):
        _list_clips(work, split, clips[split], classes, videos, unreadable)
    return work.finish()


def _archives(tree: Tree, folder: Path) -> dict[Path, Path]:
    """Choose a folder for each archive. CVDF's archives of both splits have the same names, in different folders."""
    archives: dict[Path, Path] = {}
    for path in tree.ending(ARCHIVE_ENDINGS):
        name = path.name
        for ending in ARCHIVE_ENDINGS:
            name = name.removesuffix(ending)
        target = folder / f"{path.parent.name}_{name}"
        if target in archives:
            raise ConfigError(
                f"{path} and {archives[target]} have the same name in folders of the same name. Rename one."
            )
        archives[target] = path
    return archives


def _read_clips(tree: Tree, work: Workspace) -> dict[str, list[Clip]]:
    """Read the clips of each split from the .csv files."""
    clips: dict[str, set[Clip]] = defaultdict(set)
    for path in tree.ending((".csv",)):
        with reading(path, "is no table of text"):
            rows = csv.DictReader(io.StringIO(decode_text(path.read_bytes(), path), newline=""))
            columns = rows.fieldnames or ()
        if not {"label", "youtube_id"} <= set(columns):  # no annotations; the file of the test split has no labels
            continue
        lacking = [column for column in _COLUMNS if column not in columns]
        if lacking:
            raise ConfigError(f"{path}: the column {lacking[0]} is missing. The columns are {', '.join(columns)}.")
        with reading(path, "is no table of text"):
            for row in rows:
                split, clip = _read_row(row, f"{path}, line {rows.line_num}")
                if split is not None:
                    clips[split].add(clip)
    if not clips:
        raise ConfigError(
            f"{work.places()}: there is no .csv file with the columns {', '.join(_COLUMNS)}; see docs/data.md."
        )
    return defaultdict(list, {split: sorted(found) for split, found in clips.items()})


def _read_row(row: dict[str, str], place: str) -> tuple[str | None, Clip]:
    """Return the split and the clip of a row. Files are named as by CVDF."""
    if any(row[column] is None for column in _COLUMNS):
        raise ConfigError(f"{place}: the row has fewer columns than the first line.")
    if row["split"] not in SPLITS:
        raise ConfigError(f"{place}: split={row['split']!r} is none of {', '.join(SPLITS)}.")
    try:
        start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{place}: {row['time_start']!r} to {row['time_end']!r} are no seconds.") from error
    clip = Clip(row["label"].strip(' "'), f"{row['youtube_id']}_{start:06d}_{end:06d}")
    if clip.folder in ("", ".", "..") or _NO_NAME.search(clip.folder + clip.name) or len(max(clip, key=len)) > _LENGTH:
        raise ConfigError(f"{place}: {clip.label!r} and {row['youtube_id']!r} cannot name a folder and a file.")
    return SPLITS[row["split"]], clip


def _find_videos(tree: Tree) -> dict[str, list[str]]:
    """Find the files of each clip by their names. CVDF has replacements for corrupted files, which come first."""
    videos = defaultdict(list)
    for path in tree.ending(VIDEO_ENDINGS):
        videos[path.stem].append(str(path))
    return {name: sorted(paths, key=lambda path: ("replacement" not in path, path)) for name, paths in videos.items()}


def _check(work: Workspace, clips: dict[str, list[Clip]], videos: dict[str, list[str]]) -> dict[str, str]:
    """Read every file of a clip in the annotations. Return file -> reason for the unreadable ones."""
    names = {clip.name for split in clips.values() for clip in split}
    extra = len(videos.keys() - names)
    if extra:
        work.report.warn(f"videos that no .csv file names, not used: {extra}.")
    files = [path for name in sorted(names) for path in videos.get(name, ())]
    return work.check(files, check_video, work.report.dataset)


def _list_clips(
    work: Workspace,
    split: str,
    clips: list[Clip],
    classes: list[str],
    videos: dict[str, list[str]],
    unreadable: dict[str, str],
) -> None:
    """Place the readable clips of a split and write their list."""
    found = work.report.split(split)
    found.expected = len(clips)
    if not clips:
        work.report.warn(f"{split}: no .csv file has this split.")
        return
    number = {label: index for index, label in enumerate(classes)}
    labels, places = {}, {}
    for clip in clips:
        paths = videos.get(clip.name, ())
        readable = [path for path in paths if path not in unreadable]
        if not paths:
            found.missing.append(clip.name)
        elif not readable:
            found.unreadable[paths[0]] = unreadable[paths[0]]
        else:
            source = Path(readable[0])
            name = f"{clip.folder}/{clip.name}{source.suffix}"
            if " " in name:
                found.left_out[name] = "mmaction2's lists cannot hold a name with a space"
                continue
            places[work.root / f"videos_{split}" / name] = source
            labels[name] = number[clip.label]
    work.place_all(places, f"videos into {work.root / f'videos_{split}'}")
    work.write_list(work.root / f"{work.report.dataset}_{split}_list_videos.txt", split, labels)
