"""COCO 2017: folders of images, and annotations of the readable ones."""

import codecs
import json
from pathlib import Path

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS
from maskfeat_plugin.errors import ConfigError, reading

from .completeness import Report
from .files import Tree, list_names
from .readable import check_image
from .workspace import DataSettings, Workspace

IMAGES = {"train": 118_287, "val": 5_000}
ANNOTATION_ARCHIVES = ("annotations_trainval2017.zip",)


def prepare_coco(settings: DataSettings) -> Report:
    """Prepare COCO 2017 for ``mmdet.CocoDataset``: ``train2017``, ``val2017`` and ``annotations/instances_*2017.json``.

    Args:
        settings (DataSettings): The settings of the user.

    Returns:
        Report: The found and the missing samples.

    Raises:
        ConfigError: If a necessary file is missing or has another form.
    """
    work = Workspace(settings, "coco")
    tree = work.scan()
    folders = {split: _bring(work, tree, split) for split in IMAGES}
    if not any(folders.values()):
        raise ConfigError(
            f"{work.places()}: neither train2017.zip, val2017.zip nor their folders are there; see docs/data.md."
        )
    if work.pending:
        return work.finish()
    for split, folder in folders.items():
        work.report.split(split).expected = IMAGES[split]
        if folder is None:
            work.report.warn(f"{split}: there are no images.")
        else:
            _list_readable(work, tree, split, folder)
    return work.finish()


def _bring(work: Workspace, tree: Tree, split: str) -> Path | None:
    """Bring the folder of the images of a split into the root, and return it."""
    name = f"{split}2017"
    folders = [folder for folder in tree.folders.get(name, ()) if list_names(folder, IMAGE_ENDINGS)]
    archive = tree.find_file(f"{name}.zip")
    return work.bring(work.root / name, folders, [[archive]] if archive else [])


def _list_readable(work: Workspace, tree: Tree, split: str, folder: Path) -> None:
    """Read the annotated images, and write the annotations of the readable ones to the place that the configs read."""
    name = f"instances_{split}2017.json"
    target = work.root / "annotations" / name
    found = work.read(tree, [name], ANNOTATION_ARCHIVES)
    if found is None and target.is_file():  # an earlier run has moved the file there
        found = work.read(Tree([target]), [name])
    if found is None:
        raise ConfigError(f"{work.places()}: neither {name} nor {ANNOTATION_ARCHIVES[0]} is there; see docs/data.md.")
    content, source = found
    with reading(f"{source}:", f"{name} is not COCO's"):
        instances = json.loads(content.decode("utf-8-sig"))
        images = {str(image["file_name"]): image["id"] for image in instances["images"]}
        kept_keys = [annotation["image_id"] for annotation in instances["annotations"]]
        if not all(isinstance(number, int) for number in (*images.values(), *kept_keys)):
            raise ValueError("the id of an image is no integer")
    there = set(list_names(folder, IMAGE_ENDINGS))
    paths = {str(folder / image): image for image in images if image in there}
    unreadable = {paths[path]: why for path, why in work.check(list(paths), check_image, f"coco {split}").items()}
    report = work.report.split(split)
    report.missing = sorted(set(images) - there)
    report.unreadable = dict(sorted(unreadable.items()))
    report.listed = len(images) - len(report.missing) - len(unreadable)
    lost = {images[image] for image in (*report.missing, *unreadable)}
    marked = content.startswith(codecs.BOM_UTF8)  # mmdet cannot read a byte order mark
    content = content.removeprefix(codecs.BOM_UTF8)
    if not lost and not marked and source.name == name and (target.is_symlink() or not target.exists()):
        work.place(source, target)
        return
    if lost:
        instances["images"] = [image for image in instances["images"] if image["id"] not in lost]
        instances["annotations"] = [
            annotation
            for annotation, image in zip(instances["annotations"], kept_keys, strict=True)
            if image not in lost
        ]
        content = json.dumps(instances).encode()
    work.write(target, content, [source])
