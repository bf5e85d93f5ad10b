"""Something-Something v2: the folder of its videos, and lists of the readable ones."""

import json
import re
from collections import Counter
from pathlib import Path

from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS
from maskfeat_plugin.errors import ConfigError, reading

from .archives import join_parts
from .completeness import Report
from .files import Tree
from .readable import check_video
from .workspace import DataSettings, Workspace

VIDEOS = {"train": 168_913, "val": 24_777}
CLASSES = 174
# Names of the annotation files: in today's downloads, and in the older downloads of 20BN
ANNOTATIONS = {
    "labels": ("labels.json", "something-something-v2-labels.json"),
    "train": ("train.json", "something-something-v2-train.json"),
    "val": ("validation.json", "something-something-v2-validation.json"),
}
LABEL_ARCHIVES = ("20bn-something-something-download-package-labels.zip",)
_PART = re.compile(r"20bn-something-something-v2-\d\d")


def prepare_sthv2(settings: DataSettings) -> Report:
    """Prepare Something-Something v2 for ``mmaction.VideoDataset``: ``videos`` and a list of each split.

    Classes have the numbers of the official labels.

    Args:
        settings (DataSettings): The settings of the user.

    Returns:
        Report: The found and the missing samples.

    Raises:
        ConfigError: If a necessary file is missing or has another form.
    """
    work = Workspace(settings, "sthv2")
    tree = work.scan()
    number, samples = _read_annotations(work, tree)
    if len(number) != CLASSES:
        work.report.warn(f"there are {len(number)} classes, not {CLASSES}.")
    ids = {name for split in samples.values() for name in split}
    folder = _bring_videos(work, tree, ids)
    if work.pending:
        return work.finish()
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_ENDINGS}
    wanted = sorted(str(files[name]) for name in ids if name in files)
    unreadable = work.check(wanted, check_video, "sthv2")
    for split, labels in samples.items():
        found = work.report.split(split)
        found.expected = VIDEOS[split]
        found.missing = sorted(name for name in labels if name not in files)
        there = {files[name]: label for name, label in labels.items() if name in files}
        found.unreadable = {path.name: unreadable[str(path)] for path in sorted(there) if str(path) in unreadable}
        listed = {path.name: label for path, label in there.items() if str(path) not in unreadable}
        work.write_list(work.root / f"sthv2_{split}_list_videos.txt", split, listed)
    return work.finish()


def _read_annotations(work: Workspace, tree: Tree) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Read the annotations. Return template -> class, and split -> video -> class."""
    content, places = {}, {}
    for kind, names in ANNOTATIONS.items():
        found = work.read(tree, names, LABEL_ARCHIVES)
        if found is None:
            raise ConfigError(f"{work.places()}: there is no {names[0]} or {names[1]}; see docs/data.md.")
        places[kind] = found[1]
        with reading(f"{found[1]}:", f"{names[0]} is no JSON"):
            content[kind] = json.loads(found[0].decode("utf-8-sig"))
    with reading(f"{places['labels']}:", "templates with their numbers are expected"):
        number = {template: int(label) for template, label in content["labels"].items()}
    return number, {split: _read_samples(content[split], number, places[split]) for split in VIDEOS}


def _read_samples(items: object, number: dict[str, int], place: Path) -> dict[str, int]:
    """Return video -> class. The templates of samples contain brackets, the templates of the labels do not."""
    samples = {}
    if not isinstance(items, list):
        raise ConfigError(f"{place}: a list of videos is expected.")
    for index, item in enumerate(items):
        try:
            template = item["template"].replace("[", "").replace("]", "")
            samples[str(item["id"])] = number[template]
        except KeyError as error:
            raise ConfigError(
                f"{place}, video {index}: {error} is "
                + ("missing." if error.args[0] in ("id", "template") else "none of the labels.")
            ) from error
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"{place}, video {index}: {item!r} has no id and template.") from error
    return samples


def _bring_videos(work: Workspace, tree: Tree, ids: set[str]) -> Path:
    """Bring the folder with most of the videos into the root, or unpack the parts of the archive. Return the folder."""
    videos = tree.ending(VIDEO_ENDINGS)
    folders = Counter(path.parent for path in videos if path.stem in ids).most_common()
    parts = [path for name, paths in tree.files.items() if _PART.fullmatch(name) for path in paths[:1]]
    folder = work.bring(work.root / "videos", [folder for folder, _ in folders], [join_parts(parts)] if parts else [])
    if folder is None:
        zipped = next((name for name in tree.files if _PART.fullmatch(name.removesuffix(".zip"))), None)
        raise ConfigError(
            f"{work.places()}: there are no videos named in train.json and no parts "
            f"20bn-something-something-v2-00, -01, ...; "
            + (f"unzip {zipped} and the other parts first." if zipped else "see docs/data.md.")
        )
    return folder
