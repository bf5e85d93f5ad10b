"""The page docs/model_zoo.md, written from the metafiles: every full-size config, and others' files and numbers."""

from collections.abc import Iterable
from pathlib import Path

import yaml

PAGE = "docs/model_zoo.md"

# Section -> folders below configs/, and a sentence about all of their models
SECTIONS = {
    "Pre-training": (("pretrain", "scaling", "efficient", "contrast"), ""),
    "Image classification": (("classification",), ""),
    "Video recognition": (
        ("recognition",),
        "The paper's headline numbers, top-1: 86.7 on Kinetics-400, 88.3 on Kinetics-600, 80.4 on Kinetics-700, 75.0 "
        "on Something-Something v2.",
    ),
    "Action detection": (("action_detection",), "The paper's headline number on AVA v2.2: 39.8 mAP."),
    "Detection and instance segmentation": (("detection",), "The paper has no number for COCO."),
    "Semantic segmentation": (("segmentation",), "The paper has no number for ADE20K."),
}
# Beginning of a pre-training config's name -> the authors' file of the same model
AUTHORS_FILES = {
    "maskfeat_vit-base-p16": "in1k_VIT_B_MaskFeat_PT_epoch_01600.pyth",
    "maskfeat_vit-large-p16": "in1k_VIT_L_MaskFeat_PT_epoch_01600.pyth",
    "maskfeat_mvit-small-16x4": "k400_MVIT_S_MaskFeat_PT_epoch_00300.pyth",
    "maskfeat_mvit-large-16x4": "k400_MVIT_L_MaskFeat_PT_epoch_00800.pyth",
}
# Config -> number that others report for this model and data set, and who reports it
REPORTED = {
    "vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k": "84.0, the paper",
    "vit-large-p16_maskfeat-pre_16xb128-amp-coslr-50e_in1k": "85.7, the paper",
    "mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400": "82.2, the authors' released model",
    "mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400": "84.3, the authors' released model",
    "mvit-large-352-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400": "86.7, the paper (pre-trained on Kinetics-600)",
}
_TOP = """<!-- Written by tools/write_model_index.py from the configs. -->
# Model zoo

For those who look for a full-size config, or for a checkpoint and the config that it fits. At the end you have the name
of the config, the GPUs and epochs that its recipe is made for, and the number that others report for the model.

Train a config by its name, or list all names:

```shell
maskfeat configs
maskfeat train maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k
```

The numbers on this page are from the paper and from the authors' release. No full-size config was trained here, see
[limits](limits.md#trainings-at-full-size). So no weights are released here. `-` means that no number is known. Epochs,
GPUs and batch are the values of the recipe. The metafiles call them `Recipe For`.

Every config can load a checkpoint by the key `model.backbone.init_cfg.checkpoint`, see [checkpoints](checkpoints.md).
That page also lists OpenMMLab's files. The authors' files are under
`https://dl.fbaipublicfiles.com/pyslowfast/masked_models/`.

The repository contains the weights of the demo's small models (`configs/demo/weights`). Their numbers were measured
here, see [the demo](demo.md).
"""
_END = """## Where to go next

- Time and memory of a training: [scaling](scaling.md). Data sets: [data](data.md).
- Load one of the files: [checkpoints](checkpoints.md).
- Differences from the authors' recipes: [differences](differences.md).
"""


def model_zoo_page(root: Path) -> str:
    """Write the text of the page, from the content of the metafiles.

    Args:
        root (Path): The project, a folder with ``configs/`` whose metafiles are up to date.

    Returns:
        str: Markdown.

    Raises:
        ValueError: If a file or a number is given for a config that does not exist.
    """
    seen: set[str] = set()
    parts = [_TOP]
    for title, (folders, note) in SECTIONS.items():
        models = [model for folder in folders for model in _models(root / "configs" / folder)]
        seen |= {model["Name"] for model in models}
        parts.append("\n".join([f"## {title}\n", *([f"{note}\n"] if note else []), *_table(models, title)]) + "\n")
    unknown = sorted(set(REPORTED) - seen) + [
        start for start in AUTHORS_FILES if not any(name.startswith(start) for name in seen)
    ]
    if unknown:
        raise ValueError(
            f"No config is named {', '.join(unknown)}. Remove this name from projects/documentation/model_zoo.py."
        )
    return "\n".join([*parts, _END])


def _table(models: Iterable[dict], title: str) -> list[str]:
    pretraining = title == "Pre-training"
    last = "the authors' file of this model" if pretraining else "reported number"
    rows = [f"| config | data | epochs | GPUs x batch | {last} |", "| --- | --- | ---: | ---: | --- |"]
    for model in models:
        name, metadata = model["Name"], model["Metadata"]
        length = metadata["Epochs"] if "Epochs" in metadata else f"{metadata['Iterations']:,} steps"
        gpus = int(metadata["Recipe For"].split()[0])
        file = next((f"`{file}`" for start, file in AUTHORS_FILES.items() if name.startswith(start)), "-")
        rows.append(
            f"| [{name}](../{model['Config']}) | {metadata['Training Data']} | {length} | "
            f"{gpus} x {metadata['Batch Size'] // gpus} | {file if pretraining else REPORTED.get(name, '-')} |"
        )
    return rows


def _models(folder: Path) -> list[dict]:
    """Read the entries of a folder's metafile, HOG before the other targets."""
    models = yaml.safe_load((folder / "metafile.yml").read_text())["Models"]
    return sorted(models, key=lambda model: model["Name"].startswith("maskfeat-"))
