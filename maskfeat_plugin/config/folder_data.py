"""Data sets that read folders: file endings as in all tools, and a log of the files that are used or left out."""

import os

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmpretrain.datasets import CustomDataset

from maskfeat_plugin.datasets import VideoDataset
from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS, find_files, printable

from .checks import is_remote
from .classes import dataset_class, dataset_parts
from .input_kinds import IMAGES, SOUNDS
from .sample_sizes import class_name
from .walking import walk


def complete_endings(cfg: Config) -> None:
    """Make mmpretrain's data sets of folders read every ending of images, or of sounds, if their config names none.

    Upstream's list lacks ``.tiff`` and ``.webp``, and files with these endings are left out without a message.

    Args:
        cfg (Config): The config, which is changed in place.
    """
    for _, node in walk({key: cfg.get(key) for key in cfg if key.endswith("_dataloader") or key == "custom_hooks"}):
        if "extensions" in node or node.get("ann_file") or not ("data_root" in node or "data_prefix" in node):
            continue
        kind = dataset_class(node, cfg.get("default_scope"))
        if kind is not None and issubclass(kind, CustomDataset):
            reads_sounds = any(class_name(inner) in SOUNDS.readers for _, inner in walk(node))
            node["extensions"] = (SOUNDS if reads_sounds else IMAGES).endings


def log_files(dataset: object, key: str) -> None:
    """Log the number of samples of a data set, and the files of its folder that were left out, with the reason.

    Args:
        dataset (object): The data set.
        key (str): Its key in the config.
    """
    logger = MMLogger.get_current_instance()
    for name, part in dataset_parts(dataset, key):
        logger.info(f"{name}: {len(part)} samples of {part.ann_file or _folder(part) or type(part).__name__} are used.")
        folder, endings = _folder(part), getattr(part, "extensions", VIDEO_ENDINGS)
        if not folder:
            continue
        found = find_files(folder, endings, follow_links=isinstance(part, CustomDataset))
        skipped = found.describe_skipped()
        if skipped:
            logger.warning(f"{name}: left out in {printable(folder)}: {skipped}.")


def _folder(dataset: BaseDataset) -> str:
    """Return the folder that a data set reads without a list."""
    if dataset.ann_file or not isinstance(dataset, CustomDataset | VideoDataset):
        return ""
    folder = next((folder for folder in dataset.data_prefix.values() if folder), "")
    return "" if is_remote(folder) else os.path.normpath(folder)
