"""Features of files, folders and data sets into a file, for as long as it takes and however often it is stopped."""

import hashlib
import inspect
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from maskfeat_plugin.checkpoints import CheckpointError, local_file
from maskfeat_plugin.datasets.folders import as_utf8
from maskfeat_plugin.errors import ConfigError, describe, reading
from maskfeat_plugin.evaluation.features import batch_features, preserved_random_state
from maskfeat_plugin.files import sha256
from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.writing import writing

from .checks import check_dataset_files
from .feature_files import UNKNOWN, FeatureTable, check_format, write_features
from .folder_data import complete_endings
from .input_pipeline import InputDataset, InputPipeline, inference_pipeline, list_inputs, takes_clips, title_of
from .knn import each_once
from .models import load_backbone
from .origins import named_errors
from .sample_sizes import sample_channels

SPLITS = ("train", "val", "test")


def extract_to_file(
    cfg: Config,
    checkpoint: str | Path,
    out: str | Path,
    inputs: object = None,
    split: str | None = None,
    tokens: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "cpu",
    part_size: int = 1024,
) -> int:
    """Write the features of files or of a data set into a file.

    The features are those of k-NN, see :func:`.batch_features`, by the pipeline of validation, or that of the training
    without what is random in it. Until the file is whole its parts are in a hidden folder beside it: called again with
    the same arguments after an interruption, the work goes on from there, and the file is the same.

    Args:
        cfg (Config): Config of pre-training by MaskFeat, or of fine-tuning by mmpretrain or mmaction2; changed.
        checkpoint (str | Path): Checkpoint of any format of docs/checkpoints.md, pre-trained or fine-tuned.
        out (str | Path): The file, see :func:`.write_features`.
        inputs (object, optional): Files, folders or arrays, see :func:`.list_inputs`. Defaults to None: the data set.
        split (str, optional): Which data set of the config instead, "train", "val" or "test". Defaults to None.
        tokens (bool): Whether to write the features of every token instead of one vector a sample. Defaults to False.
        batch_size (int): How many samples the model sees at once. Defaults to 32.
        workers (int): Processes that read the samples. Defaults to 0, this one.
        device (str): Where the model is. Defaults to "cpu".
        part_size (int): After so many samples, rounded up to whole batches, a part is kept. Defaults to 1024.

    Returns:
        int: Number of samples.

    Raises:
        ConfigError: If the file is there already, a sample cannot be read, or an argument does not fit.
    """
    out = Path(out)
    check_format(out)
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("part_size", part_size, 1)):
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}={value!r} has to be a whole number of at least {least}.")
    if (inputs is None) == (split is None):
        raise ConfigError("give either files or the data set to extract the features of.")
    if not isinstance(cfg.get("model", {}).get("backbone"), dict):
        raise ConfigError(f"{title_of(cfg)} has no model.backbone, which the features are of.")
    if tokens:
        _ask_for_tokens(cfg)
    if inputs is not None:
        dataset, names = _dataset_of_files(cfg, inputs)
        arrays = [item.array for item in dataset.items if item.array is not None]
        data = inference_pipeline(cfg), [hashlib.sha256(np.ascontiguousarray(a)).hexdigest() for a in arrays]
    else:
        dataset, names = _dataset_of_config(cfg, split)
        data = cfg[f"{split}_dataloader"]
    try:
        digest = _digest(local_file(checkpoint))
    except (CheckpointError, OSError) as error:
        raise ConfigError(str(error)) from error
    size = -(-part_size // batch_size) * batch_size
    settings = dict(
        model=_text_digest(cfg.model.to_dict()),
        checkpoint=digest,
        data=_text_digest(data),
        samples=_text_digest(names),
        tokens=tokens,
        batch_size=batch_size,
        part_size=size,
    )
    parts = _Parts(out, settings, len(names), size)
    if not parts.is_done():
        begin = parts.begin()
        if begin < len(names):
            model = load_backbone(cfg, checkpoint, device)
            loader = DataLoader(
                Subset(dataset, range(begin, len(names))),
                batch_size,
                num_workers=workers,
                collate_fn=pseudo_collate,
                persistent_workers=workers > 0,
            )
            for part in _extract(model, loader, names, begin, size, tokens):
                parts.add(part)
        write_features(out, parts, len(names))
    parts.remove()
    return len(names)


def _extract(
    model: torch.nn.Module, loader: DataLoader, names: Sequence[str], begin: int, size: int, tokens: bool
) -> Iterator[FeatureTable]:
    """Parts of ``size`` samples, the last one shorter."""
    vectors, labels, start = [], [], begin
    with tqdm(total=len(names), initial=begin, desc="Features", unit="sample") as bar:
        batches = iter(loader)
        while True:
            try:
                with preserved_random_state():
                    batch = next(batches, None)
                    if batch is None:
                        break
                    features, samples = batch_features(model, batch, tokens)
            except ConfigError as error:  # one from a worker comes with its traceback
                raise ConfigError(str(error).strip().rpartition("ConfigError: ")[2]) from error
            except ValueError as error:
                raise ConfigError(f"no features of {names[start + len(labels)]}: {describe(error)}") from error
            vectors.append(features.numpy())
            labels += [_label(sample) for sample in samples] if samples else [UNKNOWN] * len(features)
            bar.update(len(features))
            if len(labels) == size or start + len(labels) == len(names):
                yield FeatureTable(
                    names[start : start + len(labels)], np.array(labels, np.int64), np.concatenate(vectors)
                )
                start += len(labels)
                vectors, labels = [], []


def _label(sample: object) -> int:
    """The class of a sample of mmpretrain or mmaction2, if it has exactly one."""
    label = getattr(sample, "gt_label", None)
    return UNKNOWN if label is None or label.numel() != 1 else int(label)


def _dataset_of_files(cfg: Config, inputs: object) -> tuple[InputDataset, list[str]]:
    pipeline = inference_pipeline(cfg)
    title = title_of(cfg)
    items = list_inputs(inputs, takes_clips(pipeline, title), title, sample_channels(cfg))
    return InputDataset(items, InputPipeline(cfg, pipeline)), [as_utf8(item.name) for item in items]


def _dataset_of_config(cfg: Config, split: str) -> tuple[Dataset, list[str]]:
    key = f"{split}_dataloader"
    if split not in SPLITS or cfg.get(key) is None:
        there = [name for name in SPLITS if cfg.get(f"{name}_dataloader") is not None]
        raise ConfigError(f"{title_of(cfg)} has no data set {split!r}; it has {', '.join(there) or 'none'}.")
    complete_endings(cfg)
    config = cfg[key].dataset
    if split == "train":
        queries = next((cfg[f"{s}_dataloader"].dataset for s in ("val", "test") if cfg.get(f"{s}_dataloader")), None)
        if queries is None:
            kind = config.get("dataset_type", config.type)
            queries = ConfigDict(type=kind, pipeline=inference_pipeline(cfg), test_mode=True)
        config = each_once(config, queries)
    check_dataset_files(config, f"{key}.dataset")
    with named_errors(cfg, "cannot be built", (f"{key}.dataset",)):
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            dataset = DATASETS.build(config)
    if not len(dataset):
        raise ConfigError(f"{key}.dataset of {title_of(cfg)} is empty.")
    names = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index) if hasattr(dataset, "get_data_info") else {}
        names.append(as_utf8(str(info.get("filename") or info.get("img_path") or index)))
    return _Settled(dataset, names), names


class _Settled(Dataset):
    """A data set whose samples are the same each time, whatever its transforms draw."""

    def __init__(self, dataset: Dataset, names: Sequence[str]) -> None:
        self.dataset = dataset
        self.names = names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        with preserved_random_state():
            random.seed(index)
            np.random.seed(index)
            torch.manual_seed(index)
            try:
                return self.dataset[index]
            except Exception as error:  # decoders and transforms are anybody's
                raise ConfigError(f"{self.names[index]} cannot be read: {describe(error)}") from error


class _Parts:
    """The parts of a file that is not whole yet, in a folder beside it.

    Args:
        out (Path): The file.
        settings (dict): What the features depend on, for JSON.
        count (int): Number of samples.
        size (int): Number of samples of a part.

    Raises:
        ConfigError: If the file is there, or parts with other settings are.
    """

    def __init__(self, out: Path, settings: dict, count: int, size: int) -> None:
        self._out = out
        self._folder = out.with_name(f".{out.name}.parts")
        self._paths = [self._folder / f"{i:06d}.npz" for i in range(-(-count // size))]
        self._count, self._size = count, size
        if out.exists():
            if not self._folder.is_dir():
                raise ConfigError(f"{out} is there already; remove it or name another file.")
            return  # it was stopped when no more than the parts had to be removed
        file = self._folder / "settings.json"
        text = json.dumps(settings, indent=2)
        if file.is_file():
            with reading(file, "is damaged", f"Remove {self._folder}."):
                self._check_same(json.loads(file.read_text()), settings)
        else:
            with writing(file) as unfinished:
                unfinished.write_text(text)

    def __iter__(self) -> Iterator[FeatureTable]:
        for path in self._paths:
            with reading(path, "is damaged", f"Remove {self._folder}."), np.load(path) as content:
                part = FeatureTable(content["names"].tolist(), content["labels"], content["features"])
            yield part

    def is_done(self) -> bool:
        """Whether the file is whole."""
        return self._out.exists()

    def begin(self) -> int:
        """Number of the first sample that no part has."""
        done = next((i for i, path in enumerate(self._paths) if not path.is_file()), len(self._paths))
        return min(done * self._size, self._count)

    def add(self, part: FeatureTable) -> None:
        """Keep the next part."""
        path = self._paths[self.begin() // self._size]
        with writing(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, names=np.array(part.names), labels=part.labels, features=part.features)

    def remove(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _check_same(self, found: dict, settings: dict) -> None:
        different = [key for key, value in settings.items() if found.get(key) != value]
        if different:
            raise ConfigError(
                f"{self._folder} has parts of an extraction with another {', '.join(different)}; go on with that one, "
                "remove the folder to begin anew, or name another file."
            )


def _ask_for_tokens(cfg: Config) -> None:
    """Have a backbone that gives a vector by default give its feature map."""
    with named_errors(cfg, "cannot be built", ("model.backbone",)):
        with (
            DefaultScope.overwrite_default_scope(cfg.get("default_scope")),
            MODELS.switch_scope_and_registry(None) as registry,
        ):
            cls = registry.get(cfg.model.backbone.type)
    bases = inspect.getmro(cls) if inspect.isclass(cls) else ()
    if any("out_type" in inspect.signature(base.__init__).parameters for base in bases):
        cfg.model.backbone.out_type = "featmap"


def _digest(path: Path) -> str:
    """Digest of a checkpoint, a file or the files of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digests = [sha256([file]) for file in files]
    return digests[0] if len(digests) == 1 else _text_digest(digests)


def _text_digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
