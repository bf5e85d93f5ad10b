"""Comparison of the classes of data sets, annotation files, heads and metrics, before a training or a test.

Labels are numbers. If two sides number the classes differently, nothing fails, but the result is meaningless.
"""

import codecs
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS, DefaultScope
from mmpretrain.datasets import CustomDataset
from mmpretrain.models import BaseSelfSupervisor
from torch import nn

from maskfeat_plugin.checkpoints import CheckpointError, load_file, local_file
from maskfeat_plugin.datasets.ava_tables import read_label_map
from maskfeat_plugin.datasets.categories import class_folders, read_categories
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.errors import ConfigError, reading

from .checks import is_remote
from .signatures import short
from .walking import leaf_datasets, walk

_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_KNN_LOADERS = ("features_dataloader", "query_dataloader")
# Number of names that a message lists
_NAMED = 5


def check_class_files(cfg: Config, keys: Sequence[str]) -> None:
    """Compare the classes of the data on disk with each other and with the config, before anything is built.

    Folders of classes are numbered in the order of their names, COCO's categories in the order of the file. So one
    missing or additional folder or category changes the numbers of all later classes.

    Args:
        cfg (Config): The config.
        keys (Sequence[str]): Keys of the dataloaders that will be used. Class folders of the other dataloaders are
            compared too, if they exist.

    Raises:
        ConfigError: With the difference that was found.
    """
    scope = cfg.get("default_scope")
    if _learns_labels(cfg.get("model") or {}):
        _compare_folders({key: cfg.get(key) for key in _LOADERS}, scope)
    for i, hook in enumerate(cfg.get("custom_hooks") or ()):
        if str(hook.get("type")).endswith("KNNHook"):
            _compare_folders({f"custom_hooks[{i}].{key}": hook.get(key) for key in _KNN_LOADERS}, scope)
    _compare_categories({key: cfg.get(key) for key in keys}, scope)


def check_labels(
    cfg: Config, datasets: Mapping[str, object], model: object, metrics: Mapping[str, Sequence[object]]
) -> None:
    """Compare the classes of built data sets with each other, and with the heads and metrics that use their labels.

    Args:
        cfg (Config): The config.
        datasets (Mapping[str, object]): Data sets by their keys in the config.
        model (object): The model. A model that is not built yet, or that learns without labels, is skipped.
        metrics (Mapping[str, Sequence[object]]): Metrics by their keys.

    Raises:
        ConfigError: With the difference that was found.
    """
    if not isinstance(model, nn.Module):
        return
    if is_model_wrapper(model):
        model = model.get_submodule("module")
    if isinstance(model, BaseSelfSupervisor):
        return
    heads = dict(_heads(model))
    if not heads:
        return
    heads.update(
        (f"{key}.num_classes", node["num_classes"])
        for key, node in walk(cfg.model, "model")
        if key.startswith(("model.data_preprocessor", "model.train_cfg")) and isinstance(node.get("num_classes"), int)
    )
    parts = {key: part for name, dataset in datasets.items() for key, part in dataset_parts(dataset, name)}
    for key, part in parts.items():
        if not getattr(part, "return_classes", False):  # open vocabularies
            _check_number(key, part, heads)
            _check_metrics(key, part, metrics)
            _check_range(key, part, min(heads.values()))
    _check_equal({key: names for key, part in parts.items() if (names := _names(part))}, "its classes")
    for key, part in parts.items():
        if any(name.startswith("\ufeff") for name in _names(part)):
            raise ConfigError(f"{key}: the file of its classes begins with a byte order mark; save it without one.")
    for name in ("num_classes", "custom_classes"):
        found = {key: value for key, part in parts.items() if (value := getattr(part, name, None)) is not None}
        _check_equal_values(found, name)


def check_classes_of_checkpoint(dataset: object, key: str, checkpoint: str | None) -> None:
    """Compare the classes of a data set with the classes that a checkpoint was trained on.

    Args:
        dataset (object): The data set.
        key (str): Its key in the config.
        checkpoint (str, optional): The checkpoint. mmengine stores its classes in ``meta.dataset_meta``.

    Raises:
        ConfigError: With the difference that was found. A checkpoint without classes, or one that cannot be read, is
            skipped.
    """
    try:
        content = load_file(local_file(checkpoint)) if checkpoint else None
    except (CheckpointError, OSError):  # reported where it is loaded
        return
    meta = content.get("meta") if isinstance(content, Mapping) else None
    meta = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    trained = meta.get("classes") if isinstance(meta, Mapping) else None
    if checkpoint is None or not isinstance(trained, list | tuple):
        return
    for name, part in dataset_parts(dataset, key):
        names = _names(part)
        if names and set(names) & set(map(str, trained)):  # without a common name, they may be titles or translations
            _check_equal({checkpoint: tuple(map(str, trained)), name: names}, "its classes")


def _learns_labels(model: dict) -> bool:
    """Check whether a model has a head that predicts classes."""
    return "target_generator" not in model and any("num_classes" in node for _, node in walk(model))


def _compare_folders(loaders: Mapping[str, dict | None], scope: str | None) -> None:
    """Compare the class folders of all dataloaders that have such folders."""
    folders = {}
    for loader, config in loaders.items():
        for key, dataset in leaf_datasets(config, loader):
            folder = _class_folder(dataset_class(dataset, scope), dataset)
            if folder is not None and folder.is_dir():
                folders[key] = folder
                _check_names_of_folders(key, dataset, folder)
    _check_equal_folders(folders)


def _compare_categories(loaders: Mapping[str, dict | None], scope: str | None) -> None:
    """Compare the categories of COCO files with the classes of their data sets, and with each other."""
    categories = {}
    for loader, config in loaders.items():
        for key, dataset in leaf_datasets(config, loader):
            kind = dataset_class(dataset, scope)
            if kind is not None and _is_coco(kind):
                categories[key] = _check_categories(key, dataset, kind)
    _check_equal(categories, "the categories of its file")


def dataset_class(dataset: dict, scope: str | None) -> type | None:
    """Find the class of a data set.

    Args:
        dataset (dict): Config of the data set; the data set may be inside ``maskfeat.SkipBadFiles``.
        scope (str, optional): Default scope of the config.

    Returns:
        type | None: The class. None if no registry has it; building it reports that error.
    """
    kind = dataset.get("dataset_type", dataset.get("type"))
    if isinstance(kind, str):
        with DefaultScope.overwrite_default_scope(scope), DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind if inspect.isclass(kind) else None


def _class_folder(kind: type | None, dataset: dict) -> Path | None:
    """Return the folder that contains one folder per class, for data sets that read their labels from folders."""
    if kind is None or not issubclass(kind, CustomDataset) or not dataset.get("with_label", True):
        return None
    root, split = dataset.get("data_root") or "", dataset.get("split") or ""
    prefix = dataset.get("data_prefix") or split
    prefix = prefix.get("img_path", "") if isinstance(prefix, dict) else prefix
    if dataset.get("ann_file") or split == "test" or is_remote(root, prefix):
        return None
    if split and Path(root, "meta", f"{split}.txt").is_file():  # ImageNet's list
        return None
    return Path(root, prefix).expanduser()


def _check_names_of_folders(key: str, dataset: dict, folder: Path) -> None:
    """Compare the class folders with ``classes`` of the config, unless they have no name in common, as with titles."""
    names = (dataset.get("metainfo") or {}).get("classes") or dataset.get("classes")
    if not isinstance(names, list | tuple):
        return
    found = class_folders(folder)
    if set(found) & set(names):
        _check_equal({f"{key}.metainfo": tuple(names), str(folder): found}, "the classes", f"set classes={found!r}")


def _check_equal_folders(folders: Mapping[str, Path]) -> None:
    if not folders:
        return
    (first, *others) = folders.items()
    for key, folder in others:
        expected, found = class_folders(first[1]), class_folders(folder)
        if found == expected:
            continue
        lacks = [name for name in expected if name not in found]
        more = [name for name in found if name not in expected]
        says = "; ".join(
            filter(
                None,
                (
                    f"{folder} lacks the class {_list(lacks)}" if lacks else "",
                    f"{folder} has the class {_list(more)}, which {first[1]} lacks" if more else "",
                ),
            )
        )
        remedy = (
            f"Make an empty folder for each class that is lacking: {folder / lacks[0]}."
            if lacks
            else (f"Make an empty folder {first[1] / more[0]}, or remove {folder / more[0]}.")
        )
        raise ConfigError(
            f"{key}: {says}. Labels are the numbers of the folders: there are {len(found)} here and {len(expected)} in "
            f"{first[0]}. {remedy}"
        )


def _is_coco(kind: Any) -> bool:
    """Check whether mmdet's ``CocoDataset`` reads the categories; mmdet need not be installed."""
    bases: list[Any] = [base for base in inspect.getmro(kind) if base.__name__ == "CocoDataset"]
    return bool(bases) and kind.load_data_list is bases[0].load_data_list


def _check_categories(key: str, dataset: dict, kind: Any) -> tuple[str, ...]:
    """Compare a file's categories with the classes of the data set; return the categories in use, in their order."""
    root, file = dataset.get("data_root") or "", dataset.get("ann_file") or ""
    if not file or is_remote(root, file):
        return ()
    path = Path(root, file)
    with open(path, "rb") as content:
        if content.read(3) == codecs.BOM_UTF8:
            raise ConfigError(f"{key}.ann_file={file!r}: {path} begins with a byte order mark; save it without one.")
    try:
        found = read_categories(path)
    except ValueError as error:
        raise ConfigError(f"{key}.ann_file={file!r}: {error}") from error
    given = (dataset.get("metainfo") or {}).get("classes")
    names = kind.METAINFO.get("classes") if given is None else given
    place = f"{key}.metainfo.classes" if given is not None else f"{key} ({kind.__name__})"
    if isinstance(names, str):
        if Path(names).is_file():  # one name per line
            with reading(names, "is no list of names", f"{place} names it: write a class a line, in UTF-8."):
                names = Path(names).read_text(encoding="utf-8-sig").splitlines()
        else:
            raise ConfigError(f"{place}={names!r} has to be a list of names; set classes=({names!r},).")
    names = tuple(names or ())
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ConfigError(
            f"{place}: {path} has no category {_list(lacking)}; it has {_list(found)}. Set "
            f"metainfo=dict(classes={short(tuple(found))}) and num_classes={len(found)} of the heads, in train, val "
            "and test."
        )
    used = tuple(name for name in found if name in names)
    if len(used) != len(names):
        raise ConfigError(
            f"{place}: these {len(names)} names stand for {len(used)} categories of {path}. Give each name once."
        )
    if used != names:
        wrong = next(i for i, (a, b) in enumerate(zip(names, used, strict=True)) if a != b)
        raise ConfigError(
            f"{place}: class {wrong} is {names[wrong]!r}, but {used[wrong]!r} in the order of {path}, which numbers "
            f"the labels. Set classes={short(used, 200)}."
        )
    unused = [name for name in found if name not in names]
    if unused:
        print_log(f"{key}: categories of {path} that are not used: {_list(unused)}.", "current", logging.WARNING)
    return used


def _heads(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the numbers of classes of a model's heads by their keys, except heads of proposals and semantic maps."""
    for name, module in model.named_modules():
        number = vars(module).get("num_classes")
        inside = any("rpn" in part or part == "semantic_head" for part in name.split("."))
        if "head" in name.partition(".")[0] and not inside and isinstance(number, int):
            yield f"model.{name}.num_classes", number


def dataset_parts(dataset: object, key: str) -> Iterator[tuple[str, BaseDataset]]:
    """Find the data sets inside mmengine's wrappers and ours.

    Args:
        dataset (object): The data set.
        key (str): Its key in the config.

    Yields:
        tuple[str, BaseDataset]: The key and the data set.
    """
    if isinstance(dataset, BaseDataset):
        yield key, dataset
        return
    inner = vars(dataset)
    if "dataset" in inner:
        yield from dataset_parts(inner["dataset"], f"{key}.dataset" if "dataset_type" not in inner else key)
    for i, part in enumerate(inner.get("datasets") or ()):
        yield from dataset_parts(part, f"{key}.datasets[{i}]")


def _names(dataset: BaseDataset) -> tuple[str, ...]:
    names = dataset.metainfo.get("classes")
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _check_number(key: str, dataset: BaseDataset, heads: Mapping[str, int]) -> None:
    """Compare a data set's number of classes with the heads' numbers."""
    names, number = _names(dataset), getattr(dataset, "num_classes", None)
    what = f"num_classes={number}" if not names else f"{len(names)} classes, {_list(names)}"
    number = len(names) or number
    for head, found in heads.items():
        if number is not None and found != number:
            raise ConfigError(f"{head}={found}: {key} has {what}. Set {head}={number}.")
    label_file = getattr(dataset, "label_file", None)
    if label_file and not getattr(dataset, "custom_classes", None) and Path(label_file).is_file():
        largest = max(read_label_map(label_file), default=0)
        if number is not None and largest >= number:
            raise ConfigError(
                f"{key}.num_classes={number}: {label_file} has the action {largest}; num_classes counts the actions "
                f"plus one. Set num_classes={largest + 1}, of the heads and the metric too."
            )


def _check_metrics(key: str, dataset: BaseDataset, metrics: Mapping[str, Sequence[object]]) -> None:
    """Compare a data set's classes with the classes of the metrics of its split."""
    number = len(_names(dataset)) or getattr(dataset, "num_classes", None)
    for name, several in metrics.items():
        if name.partition("_")[0] != key.partition("_")[0]:
            continue
        for metric in several:
            found = getattr(metric, "num_classes", None)
            if isinstance(found, int) and number is not None and found != number:
                raise ConfigError(
                    f"{name} ({type(metric).__name__}): num_classes={found}, and {key} has {number} classes. Set "
                    f"num_classes={number}."
                )
            file = getattr(metric, "ann_file", None) or getattr(metric, "_ann_file", None)
            own = getattr(dataset, "ann_file", None)
            if file and own and hasattr(metric, "label_file") and Path(file).resolve() != Path(own).resolve():
                raise ConfigError(f"{name}.ann_file={file!r}: {key} reads {own!r}. Set both to the same file.")


def _check_range(key: str, dataset: BaseDataset, number: int) -> None:
    """Check that every label is a class of the head, and log the classes without a sample to learn from."""
    seen: set[int] = set()
    for index in range(BaseDataset.__len__(dataset)):  # number of files, where it differs from the number of samples
        info = BaseDataset.get_data_info(dataset, index)  # before mmaction2 turns several labels into vectors
        labels = _labels_of(info)
        if labels is None:
            return
        seen.update(labels)
        wrong = next((label for label in labels if not 0 <= label < number), None)
        if wrong is None or (wrong == -1 and key.startswith("test")):  # a list without labels, for prediction
            continue
        path = sample_path(info) or f"sample {index}"
        says = "has no label" if wrong == -1 else f"has the label {wrong}"
        raise ConfigError(
            f"{key}: {path}{f' of {dataset.ann_file}' if dataset.ann_file else ''} {says}, and the model has the "
            f"classes 0 to {number - 1}. Correct the labels, which are counted from 0, or num_classes of the model."
        )
    if not key.startswith("train"):
        return
    if not seen:
        raise ConfigError(f"{key}: no sample has a label or a box of the {number} classes. Compare their names.")
    names = _names(dataset) or [f"class {label}" for label in range(number)]
    unseen = [names[label] for label in range(min(number, len(names))) if label not in seen]
    if unseen:
        print_log(f"{key}: classes without a sample: {_list(unseen)}.", "current", logging.WARNING)


def _labels_of(info: dict) -> list[int] | None:
    """Return the labels of a sample or of its boxes, None if it has no labels or they are not numbers."""
    if "instances" in info:
        return [instance["bbox_label"] for instance in info["instances"] if "bbox_label" in instance]
    label = info.get("gt_label", info.get("label"))
    labels = label if isinstance(label, list | tuple) else [label]
    whole = [one for one in labels if isinstance(one, int)]
    return whole if len(whole) == len(labels) else None


def _check_equal(sides: Mapping[str, tuple[str, ...]], what: str, remedy: str = "give all the same classes") -> None:
    """Compare the class names of each side with the names of the first side."""
    (first, *others) = [(key, names) for key, names in sides.items() if names] or [("", ())]
    for key, names in others:
        if names == first[1]:
            continue
        lacks = [name for name in first[1] if name not in names]
        more = [name for name in names if name not in first[1]]
        if lacks or more:
            parts = (f"lack {_list(lacks)}" if lacks else "", f"have {_list(more)} in addition" if more else "")
            says = " and ".join(filter(None, parts))
        else:
            wrong = next(i for i, (a, b) in enumerate(zip(first[1], names, strict=False)) if a != b)
            says = f"have {names[wrong]!r} as class {wrong}, instead of {first[1][wrong]!r}"
        raise ConfigError(f"{key}: {what} {says}, compared with {first[0]}; {remedy}.")


def _check_equal_values(sides: Mapping[str, object], name: str) -> None:
    (first, *others) = sides.items() if sides else ((None, None),)
    for key, value in others:
        if value != first[1]:
            raise ConfigError(
                f"{key}.{name}={short(value)}: {first[0]} has {short(first[1])}. Give both the same value."
            )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
