"""Inputs to visualize: files, folders of files, or samples of a config's data set."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope

from maskfeat_plugin.config.checks import check_dataset_files
from maskfeat_plugin.config.folder_data import complete_endings
from maskfeat_plugin.config.input_kinds import InputKind
from maskfeat_plugin.config.input_pipeline import Input, list_inputs, title_of
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.errors import ConfigError

from ..knn_evaluation import each_once

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Choice:
    """Choice of samples of a config's data set.

    Args:
        split (str): One of :data:`SPLITS`.
        indices (tuple[int, ...], optional): Numbers of the samples. Defaults to None: ``count`` samples, evenly spaced.
        count (int): Number of samples. Defaults to 8.
    """

    split: str
    indices: tuple[int, ...] | None = None
    count: int = 8

    def of(self, dataset: BaseDataset) -> list[int]:
        """Return the numbers of the chosen samples.

        Args:
            dataset (BaseDataset): The data set of the split.

        Returns:
            list[int]: The numbers.

        Raises:
            ConfigError: If the data set lacks one of these numbers.
        """
        if self.indices is None:
            count = min(self.count, len(dataset))
            return np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
        for index in self.indices:
            if not 0 <= index < len(dataset):
                raise ConfigError(
                    f"the {self.split} data set has samples 0 to {len(dataset) - 1}, not {index}. Give other numbers."
                )
        return list(self.indices)

    def stem(self, index: int) -> str:
        """Return the name of the files that are written about a sample, without their ending."""
        return f"{self.split}_{index:06d}"


def build_split(cfg: Config, split: str, pipeline: Sequence[dict]) -> BaseDataset:
    """Build a data set of a config with another pipeline, so that it gives each sample once.

    Args:
        cfg (Config): The config.
        split (str): One of :data:`SPLITS`.
        pipeline (Sequence[dict]): Configs of the transforms.

    Returns:
        BaseDataset: The data set.

    Raises:
        ConfigError: If the config has no data set for this split, or the files of the data set do not exist.
    """
    key = f"{split}_dataloader"
    if cfg.get(key) is None:
        has = [name for name in SPLITS if cfg.get(f"{name}_dataloader") is not None]
        hint = f"it has {' and '.join(has)}" if has else "it has no data"
        raise ConfigError(f"{title_of(cfg)} has no {key}; {hint}.")
    complete_endings(cfg)
    dataset, place = cfg[key].dataset, f"{key}.dataset"
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), dict):  # one of mmengine's wrappers
        dataset, place = dataset.dataset, f"{place}.dataset"
    check_dataset_files(dataset, place)
    dataset = each_once(dataset, ConfigDict(pipeline=list(pipeline), test_mode=True))
    with named_errors(cfg, "cannot be built", (f"{key}.dataset",)):
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            return DATASETS.build(dataset)


def files_of(dataset: BaseDataset, indices: Sequence[int], title: str) -> list[Input]:
    """Return the files of samples of a data set.

    Args:
        dataset (BaseDataset): The data set.
        indices (Sequence[int]): Numbers of the samples.
        title (str): Title of the config, for messages.

    Returns:
        list[Input]: The files.

    Raises:
        ConfigError: If the samples are not read from files, but for example from folders of frames.
    """
    files = []
    for index in indices:
        path = sample_path(dataset.get_data_info(index))
        if path is None or Path(path).is_dir():
            raise ConfigError(
                f"the samples of {title} are not read from image or video files: sample {index} has no path of a file. "
                "Give files or folders."
            )
        files.append(Input(path))
    return files


def collect(
    cfg: Config, inputs: Sequence[str], choice: Choice | None, kind: InputKind
) -> tuple[list[Input], list[str]]:
    """Collect the files to visualize.

    Args:
        cfg (Config): The config of the model.
        inputs (Sequence[str]): Files and folders.
        choice (Choice, optional): Samples of the config's data set to use instead.
        kind (InputKind): Kind of the files that the config takes.

    Returns:
        tuple[list[Input], list[str]]: The files, and for each of them the name of the files that are written about it,
        without their ending.

    Raises:
        ConfigError: If a file is missing, of another kind, or broken. The message names the first one.
    """
    title = title_of(cfg)
    if choice is None:
        items = list_inputs(list(inputs), kind, title)
        return items, unique_stems(items)
    dataset = build_split(cfg, choice.split, [])
    indices = choice.of(dataset)
    items = list_inputs([item.name for item in files_of(dataset, indices, title)], kind, title)
    return items, [choice.stem(index) for index in indices]


def unique_stems(items: Sequence[Input]) -> list[str]:
    """Return unique names, without endings, for files about inputs: the inputs' names, numbered if two are equal."""
    stems = ["".join(c if c.isprintable() and c != " " else "_" for c in Path(item.name).stem) for item in items]
    counts = Counter(stems)
    return [stem if counts[stem] == 1 else f"{stem}_{number:06d}" for number, stem in enumerate(stems)]
