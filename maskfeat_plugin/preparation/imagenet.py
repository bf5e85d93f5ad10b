"""ImageNet-1k: class folders of training images, and lists with the labels of the readable images."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS
from maskfeat_plugin.errors import ConfigError

from .completeness import Report
from .files import Tree, decode_text, list_names
from .readable import check_image
from .workspace import DataSettings, Workspace

IMAGES = {"train": 1_281_167, "val": 50_000}
CLASSES = 1000
DEVKIT = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tgz", "ILSVRC2012_devkit_t12.tar")
_WNID = re.compile(r"n\d{8}")


def prepare_imagenet(settings: DataSettings) -> Report:
    """Prepare ImageNet-1k for ``mmpretrain.ImageNet(split="train")`` and ``split="val"``.

    Classes are numbered in the order of their WordNet ids, as in mmpretrain. The ids come from the development kit, or
    else from the training folders.

    Args:
        settings (DataSettings): The settings of the user.

    Returns:
        Report: The found and the missing samples.

    Raises:
        ConfigError: If a necessary file is missing or has another form.
    """
    work = Workspace(settings, "imagenet")
    tree = work.scan(skip=_WNID.pattern)
    train, val = (_bring(work, tree, split) for split in IMAGES)
    if train is None and val is None:
        raise ConfigError(
            f"{work.places()}: neither ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar nor a folder train "
            "with class folders (n01440764, ...) or val is there; see docs/data.md."
        )
    if work.pending:
        return work.finish()
    kit = _read_kit(work, tree)
    folders = [folder for folder in (train, val) if folder]
    wnids = sorted(set(kit.values())) or _classes(folders[0]) or _classes(folders[-1])
    if len(wnids) != CLASSES:
        work.report.warn(
            f"there are {len(wnids)} classes, not {CLASSES}"
            + (": their numbers are not ImageNet-1k's, unless the development kit is a SOURCE, too." if wnids else ".")
        )
    for split, folder in (("train", train), ("val", val)):
        work.report.split(split).expected = IMAGES[split]
        if folder is None:
            work.report.warn(f"{split}: there are no images.")
            continue
        labels, sources = _class_labels(folder, wnids), ()
        if split == "val" and not labels:
            labels, sources = _val_labels(work, tree, folder, kit, wnids)
        _list_readable(work, split, folder, labels, sources)
    return work.finish()


def _bring(work: Workspace, tree: Tree, split: str) -> Path | None:
    """Bring the folder of a split into the root: class folders, or for validation the images themselves. Return it."""
    named = [*tree.folders.get(split, ()), *tree.folders.get(f"ILSVRC2012_img_{split}", ())]
    folders = [folder for folder in named if _has_images(folder)]
    archive = tree.find_file(f"ILSVRC2012_img_{split}.tar")
    archives = [[archive]] if archive else []
    if not archives and split == "train":  # the archive may be unpacked to the 1000 archives inside it
        archives = [[path] for path in tree.ending((".tar",)) if _WNID.fullmatch(path.stem)]
    return work.bring(work.root / split, folders, archives)


def _has_images(folder: Path) -> bool:
    """Check for images in a folder or in its first class folder. Folders of bounding boxes have the same names."""
    classes = _classes(folder)
    return bool(list_names(folder / classes[0] if classes else folder, IMAGE_ENDINGS))


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if _WNID.fullmatch(path.name) and path.is_dir())


def _class_labels(folder: Path, wnids: list[str]) -> dict[str, int]:
    """Return the labels of the images in class folders."""
    number = {wnid: index for index, wnid in enumerate(wnids)}
    unknown = [name for name in _classes(folder) if name not in number]
    if unknown:
        raise ConfigError(f"{folder / unknown[0]}: this class is not one of the {len(wnids)} of the training images.")
    return {
        f"{wnid}/{name}": number[wnid] for wnid in _classes(folder) for name in list_names(folder / wnid, IMAGE_ENDINGS)
    }


def _read_kit(work: Workspace, tree: Tree) -> dict[int, str]:
    """Read the WordNet id of each class number of the development kit. Return an empty dict without a kit."""
    found = work.read(tree, ["meta.mat"], DEVKIT)
    if found is None:
        return {}
    import scipy.io  # the import takes a second, and only this function needs it

    try:
        table = scipy.io.loadmat(io.BytesIO(found[0]), squeeze_me=True)["synsets"]
        leaves = table[table["num_children"] == 0]
        return dict(zip((int(i) for i in leaves["ILSVRC2012_ID"]), map(str, leaves["WNID"]), strict=True))
    except Exception as error:  # a damaged MATLAB file can raise any error
        raise ConfigError(
            f"{found[1]}: meta.mat is not the file of the ILSVRC2012 development kit ({error})."
        ) from error


def _val_labels(
    work: Workspace, tree: Tree, folder: Path, kit: dict[int, str], wnids: list[str]
) -> tuple[dict[str, int], list[Path]]:
    """Read the labels of validation images in a single folder, and the files that the labels come from."""
    found = work.read(tree, ["val.txt"])
    if found:
        labels = _read_val_list(*found)
    else:
        found = work.read(tree, ["ILSVRC2012_validation_ground_truth.txt"], DEVKIT)
        if not found or not kit:
            raise ConfigError(
                f"{folder} has no class folders, and the labels of its images are missing. Add {DEVKIT[0]} or a "
                "val.txt with lines such as 'ILSVRC2012_val_00000001.JPEG 65' to SOURCE."
            )
        number = {wnid: index for index, wnid in enumerate(wnids)}
        try:
            classes = [number[kit[int(line)]] for line in decode_text(*found).split()]
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{found[1]}: {error} is no class of the development kit.") from error
        labels = {f"ILSVRC2012_val_{i:08d}.JPEG": label for i, label in enumerate(classes, start=1)}
    there = set(list_names(folder, IMAGE_ENDINGS))
    split = work.report.split("val")
    split.missing = sorted(set(labels) - there)
    split.left_out = dict.fromkeys(sorted(there - set(labels)), "it has no label")
    return {name: label for name, label in labels.items() if name in there}, [found[1]]


def _read_val_list(content: bytes, path: Path) -> dict[str, int]:
    """Read the name and the class in each line of mmpretrain's or Caffe's val.txt."""
    labels = {}
    for number, line in enumerate(decode_text(content, path).splitlines(), start=1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdigit() or int(label) >= CLASSES:
            raise ConfigError(f"{path}, line {number}: {line!r} is no image and its class from 0 to {CLASSES - 1}.")
        labels[Path(name).name] = int(label)
    return labels


def _list_readable(work: Workspace, split: str, folder: Path, labels: dict[str, int], sources: Iterable[Path]) -> None:
    """Read the images and write the list of the readable ones."""
    paths = {str(folder / name): name for name in labels}
    unreadable = {paths[path]: why for path, why in work.check(list(paths), check_image, f"imagenet {split}").items()}
    work.report.split(split).unreadable = dict(sorted(unreadable.items()))
    kept = {name: label for name, label in labels.items() if name not in unreadable}
    work.write_list(work.root / "meta" / f"{split}.txt", split, kept, list(sources))
