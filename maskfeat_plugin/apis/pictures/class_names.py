"""Names of the classes of a fine-tuned model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from torch import nn

from maskfeat_plugin.checkpoints import CheckpointError, load_file, local_file
from maskfeat_plugin.config.input_pipeline import title_of
from maskfeat_plugin.datasets.ava_tables import read_label_map
from maskfeat_plugin.errors import ConfigError

_LOADERS = ("test_dataloader", "val_dataloader", "train_dataloader")


class ClassNames:
    """Names of classes by their numbers. Class 3 is called "class 3" if it has no name.

    Args:
        names (Mapping[int, str] | Sequence[str]): The names. Defaults to no names.
    """

    def __init__(self, names: Mapping[int, str] | Sequence[str] = ()) -> None:
        self._names = dict(names if isinstance(names, Mapping) else enumerate(names))

    def __getitem__(self, number: int) -> str:
        """Return the name of a class."""
        return self._names.get(int(number), f"class {int(number)}")

    def __len__(self) -> int:
        """Return the number of known names."""
        return len(self._names)


def read_class_names(cfg: Config, checkpoint: str | Path | None = None, file: str | Path | None = None) -> ClassNames:
    """Find the names of a model's classes.

    The first of these sources that exists gives the names: the file, the label file of AVA-style data in the config,
    the metadata that mmengine writes into a checkpoint (``meta.dataset_meta``), ``metainfo`` of a data set of the
    config.

    Args:
        cfg (Config): The config of the model.
        checkpoint (str | Path, optional): Its checkpoint. Defaults to None.
        file (str | Path, optional): A text file with one name per line, beginning with class 0. Defaults to None.

    Returns:
        ClassNames: The names; empty if no source has them.

    Raises:
        ConfigError: If the file does not exist or is empty.
    """
    if file is not None:
        return ClassNames(_read_lines(Path(file)))
    datasets = [(cfg.get(key) or {}).get("dataset") or {} for key in _LOADERS]
    for dataset in datasets:
        if dataset.get("label_file") and Path(dataset["label_file"]).is_file():
            return ClassNames(_read_label_map(Path(dataset["label_file"]), dataset.get("custom_classes")))
    metas = [_meta_of(checkpoint)] if checkpoint is not None else []
    for meta in [*metas, *(dataset.get("metainfo") or {} for dataset in datasets)]:
        names = meta.get("classes") or meta.get("CLASSES")
        if isinstance(names, list | tuple):
            return ClassNames([str(name) for name in names])
    return ClassNames()


def check_number(names: ClassNames, model: nn.Module, cfg: Config) -> None:
    """Check that a file has as many names as the model has classes.

    Args:
        names (ClassNames): The names of the file.
        model (nn.Module): The model.
        cfg (Config): Its config, for messages.

    Raises:
        ConfigError: If there are more or fewer names than classes.
    """
    numbers = {getattr(module, "num_classes", None) for module in model.modules()}
    numbers = sorted(number for number in numbers if isinstance(number, int))
    if numbers and len(names) not in numbers:
        raise ConfigError(
            f"--class-names: the file has {len(names)} lines, the model of {title_of(cfg)} has "
            f"{' or '.join(map(str, numbers))} classes. Give a file with one name per class."
        )


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ConfigError(f"--class-names: the file {path} does not exist. Give a file with one name per line.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise ConfigError(f"--class-names: the file {path} is empty. Write one name per line.")
    return lines


def _read_label_map(path: Path, custom_classes: Sequence[int] | None) -> dict[int, str]:
    names = read_label_map(path)
    if custom_classes:  # the model numbers these classes from 1
        return {number: names[id_] for number, id_ in enumerate(custom_classes, start=1)}
    return names


def _meta_of(checkpoint: str | Path) -> Mapping:
    try:
        content = load_file(local_file(checkpoint))
    except (CheckpointError, OSError) as error:
        raise ConfigError(str(error)) from error
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return {}
    found = meta.get("dataset_meta", meta)  # checkpoints of mmdet 2 have the names in ``meta``
    return found if isinstance(found, Mapping) else {}
