"""Metafiles of the configs in OpenMMLab's format, made from the configs."""

import re
from pathlib import Path

import yaml
from mmengine.config import Config

from maskfeat_cli.named_configs import is_old_name

PAPER = dict(
    Title="Masked Feature Prediction for Self-Supervised Visual Pre-Training", URL="https://arxiv.org/abs/2112.09133"
)
# Folder below configs/ -> (task in the words of the frameworks' inferencers, page of the docs)
FOLDERS = dict(
    pretrain=("Self-Supervised Learning", "docs/targets.md"),
    efficient=("Self-Supervised Learning", "docs/efficient.md"),
    contrast=("Self-Supervised Learning", "docs/contrastive.md"),
    scaling=("Self-Supervised Learning", "docs/scaling.md"),
    classification=("Image Classification", "README.md"),
    recognition=("Action Recognition", "docs/recognition.md"),
    action_detection=("Action Detection", "docs/action_detection.md"),
    detection=("Object Detection", "docs/detection.md"),
    segmentation=("Semantic Segmentation", "docs/segmentation.md"),
)
# Last part of a config's name -> its data set
DATASETS = dict(
    in1k="ImageNet-1k",
    k400="Kinetics-400",
    k600="Kinetics-600",
    k700="Kinetics-700",
    sthv2="Something-Something v2",
    ava22="AVA v2.2",
    coco="COCO",
    ade20k="ADE20K",
    folder="A folder of your own",
)
HEADER = "# Written by tools/write_model_index.py from the configs.\n"


def describe_config(path: Path, root: Path) -> dict:
    """Build the entry of a config in a metafile.

    These configs are recipes. Nobody has trained them at full size, so an entry has no metric, no weights and no
    ``Training Resources``. ``Recipe For`` is the number of GPUs of the recipe.

    Args:
        path (Path): Config file below one of ``FOLDERS``, with a name such as ``..._8xb256-amp-coslr-300e_in1k.py``.
        root (Path): The project. Paths in the entry are relative to it.

    Returns:
        dict: "Name", "In Collection", "Config", "Metadata", "Results".

    Raises:
        ValueError: If the name ends in no known data set or lacks GPUs and batch size.
    """
    task, _ = FOLDERS[path.parent.name]
    suffix = path.stem.rsplit("_", 1)[-1]
    size = re.search(r"(\d+)xb(\d+)", path.stem)
    if suffix not in DATASETS or size is None:
        known = ", ".join(DATASETS)
        raise ValueError(
            f"{path}: the name must contain GPUs and batch size, such as 8xb256, and end in one of {known}."
        )
    gpus, batch = map(int, size.groups())
    train_cfg = Config.fromfile(path).train_cfg
    length = {"Iterations": train_cfg.max_iters} if "max_iters" in train_cfg else {"Epochs": train_cfg.max_epochs}
    metadata = {
        "Architecture": "MViT" if "mvit-" in path.stem else "ViT",
        "Batch Size": gpus * batch,
        **length,
        "Training Data": DATASETS[suffix],
        "Recipe For": f"{gpus} GPUs",
    }
    results = [dict(Task=task, Dataset=DATASETS[suffix], Metrics={})]
    if path.stem.startswith("mask-rcnn"):
        results.append(dict(Task="Instance Segmentation", Dataset=DATASETS[suffix], Metrics={}))
    return {
        "Name": path.stem,
        "In Collection": collection_name(path.parent.name),
        "Config": path.relative_to(root).as_posix(),
        "Metadata": metadata,
        "Results": results,
    }


def collection_name(folder: str) -> str:
    """Return the name of a folder's collection."""
    if folder == "efficient":
        return "MaskFeat: Efficient Pre-Training"
    if folder == "contrast":
        return "MaskFeat: Contrast of Two Views"
    if folder == "scaling":
        return "MaskFeat: Sharded"
    return "MaskFeat" if folder == "pretrain" else f"MaskFeat: {FOLDERS[folder][0]}"


def listed_configs(folder: Path) -> list[Path]:
    """Return the configs that a folder's metafile lists: all except configs of the demo's data and old names."""
    return sorted(
        path for path in folder.glob("*.py") if not (path.stem.endswith("moving-digits") or is_old_name(path))
    )


def model_index_files(root: Path) -> dict[Path, str]:
    """Compute the content of each folder's metafile and of the index.

    Args:
        root (Path): The project: a folder with ``configs/``.

    Returns:
        dict[Path, str]: File -> content.

    Raises:
        ValueError: If a config's name lacks the data set, the GPUs or the batch size.
    """
    files = {}
    for folder, (_, page) in FOLDERS.items():
        collection = {
            "Name": collection_name(folder),
            "Metadata": {"Architecture": ["ViT", "MViT"], "Training Techniques": ["AdamW"]},
            "Paper": PAPER,
            "README": page,
        }
        models = [describe_config(path, root) for path in listed_configs(root / "configs" / folder)]
        content = yaml.safe_dump(dict(Collections=[collection], Models=models), sort_keys=False, width=120)
        files[root / "configs" / folder / "metafile.yml"] = HEADER + content
    imports = [path.relative_to(root).as_posix() for path in files]
    files[root / "model-index.yml"] = HEADER + yaml.safe_dump(dict(Import=imports))
    return files
