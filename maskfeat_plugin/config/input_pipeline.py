"""Conversion of files and arrays to inputs of a model, by its config's pipeline without the random steps."""

import logging
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope
from torch.utils.data import Dataset

from maskfeat_plugin.datasets.folders import find_files, printable
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO, is_manifest, read_manifest
from maskfeat_plugin.datasets.transforms.masking.base import count_masked
from maskfeat_plugin.downloads import DownloadError, fetch
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.evaluation.features import preserved_random_state

from .checks import mask_grid
from .given_arrays import GIVEN, to_array
from .input_kinds import IMAGES, VIDEOS, InputKind, expand, input_kind
from .origins import named_errors
from .sample_sizes import class_name, known_class, size_after

# Transforms that decode the chosen frames of a video
DECODE_VIDEO = ("DecordDecode", "DecodeClip", "PyAVDecode", "OpenCVDecode", "PIMSDecode")
_SAMPLE_FRAMES = ("SampleFrames", "DenseSampleFrames", "UniformSample")
# Transforms that are for training only
_AUGMENTATIONS = (
    "AutoAugment",
    "ColorJitter",
    "Flip",
    "GaussianBlur",
    "Lighting",
    "RandAugment",
    "RandomApply",
    "RandomErasing",
    "RandomFlip",
    "RandomGrayscale",
    "Solarize",
    "TransformBroadcaster",
)
# Kinds that a manifest lists, and their names there
_IN_MANIFESTS = {IMAGES: IMAGE, VIDEOS: VIDEO}

_URL = re.compile("^(https?):/+")  # a Path keeps only one slash


@dataclass(frozen=True, slots=True)
class Input:
    """One input, a file or an array.

    Args:
        name (str): Name for messages: the path or the URL as given, or "array 3".
        array (np.ndarray, optional): RGB, (H, W, 3) or (T, H, W, 3), or as many channels as the model takes, in the
            order of its files; uint8 or uint16. None for a file.
        downloaded (str, optional): The file to which a URL was downloaded. Defaults to None.
    """

    name: str
    array: np.ndarray | None = None
    downloaded: str | None = None

    @property
    def file(self) -> str:
        """Return the path to read."""
        return self.downloaded or self.name


def without_randomness(pipeline: Sequence[dict], scope: str | None = None) -> list[dict]:
    """Make a training pipeline deterministic: drop each random transform or replace its settings.

    Data in memory (``maskfeat.Cached``) are read from the files. Of a video, the frames in the middle are used. Random
    crops become central crops. If the crop is resized later, it is as large as the image and the aspect ratio allow.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms.
        scope (str, optional): ``default_scope`` of the config, see :func:`.input_size`. Defaults to None: the current
            scope.

    Returns:
        list[dict]: Configs of the kept and the replaced transforms. Mask generators are not changed.
    """
    steps = [transform for transform in expand(pipeline) if class_name(transform) not in _AUGMENTATIONS]
    return [part for i, step in enumerate(steps) for part in _settled(step, steps[i + 1 :], scope)]


def inference_pipeline(cfg: Config) -> list[dict]:
    """Return the pipeline for the inputs of a config's model outside training.

    Args:
        cfg (Config): Config of pre-training, fine-tuning or testing.

    Returns:
        list[dict]: The pipeline of validation or testing, else the training pipeline :func:`without_randomness`.

    Raises:
        ConfigError: If the config has no data.
    """
    for key in ("val_dataloader", "test_dataloader"):
        pipeline = _pipeline_of(cfg, key)
        if pipeline is not None:
            return expand(pipeline)
    return without_randomness(training_pipeline(cfg), cfg.get("default_scope"))


def training_pipeline(cfg: Config) -> Sequence[dict]:
    """Return the pipeline of a config's training data.

    Args:
        cfg (Config): The config.

    Returns:
        Sequence[dict]: Configs of the transforms.

    Raises:
        ConfigError: If the config has none.
    """
    pipeline = _pipeline_of(cfg, "train_dataloader")
    if pipeline is None:
        raise ConfigError(f"{title_of(cfg)} has no train_dataloader.dataset.pipeline, but the inputs need a pipeline.")
    return pipeline


def title_of(cfg: Config) -> str:
    """Return the name of a config for messages."""
    return cfg.filename or "the config"


class InputPipeline:
    """Pipeline that prepares an input for the data preprocessor; number and seed fix the result.

    Args:
        cfg (Config): The config that contains the pipeline.
        pipeline (Sequence[dict]): Configs of the transforms, see :func:`inference_pipeline`.
        seed (int): Seed of the masks and of all other random numbers. Defaults to 0.
        mask_ratio (float, optional): Share of the tokens to mask. Defaults to None: the ratio in the pipeline.
        masks (Sequence[np.ndarray], optional): Masks to use instead, bool (H', W') or (T', H', W'), one per input.
            Defaults to None.
        needs_masks (bool): Whether a pipeline without a mask generator is an error. Defaults to False.

    Raises:
        ConfigError: If a transform cannot be built, or the pipeline lacks a mask generator that it needs.
    """

    def __init__(
        self,
        cfg: Config,
        pipeline: Sequence[dict],
        seed: int = 0,
        mask_ratio: float | None = None,
        masks: Sequence[np.ndarray] | None = None,
        needs_masks: bool = False,
    ) -> None:
        self.title = title_of(cfg)
        self.kind = input_kind(pipeline, self.title)
        self._seed = seed
        self._masks = masks
        files: list[Callable[[dict], Any]] = [self._reseed]
        arrays: list[Callable[[dict], Any]] = [self._reseed]
        steps: list[Callable[[dict], Any]]
        with named_errors(cfg, "cannot be built"), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            for config in pipeline:
                name = class_name(config)
                if _is_mask_generator(config):
                    needs_masks = False
                    steps = [self._take_mask] if masks is not None else [self._reseed, _build_masks(config, mask_ratio)]
                else:
                    steps = [TRANSFORMS.build(config)]
                files += steps
                if name in DECODE_VIDEO:
                    arrays.append(_take_frames)
                elif name not in self.kind.readers:
                    arrays += steps
        if needs_masks:
            raise ConfigError(f"the pipeline of {self.title} has no mask generator; give the config of a pre-training.")
        self._from_file, self._from_array = Compose(files), Compose(arrays)

    def __call__(self, item: Input, index: int) -> dict:
        """Read and transform an input.

        Args:
            item (Input): The input.
            index (int): Number of the input. Together with the seed it determines the mask.

        Returns:
            dict: The output of the packing transform: ``inputs`` and ``data_samples``. The state of the random
                generators does not change.

        Raises:
            ConfigError: If the input cannot be read or transformed.
        """
        compose = self._from_file if item.array is None else self._from_array
        with preserved_random_state():
            try:
                packed = compose(dict(self._start(item), sample_idx=index))
            except Exception as error:  # decoders and transforms may raise any type
                raise ConfigError(f"{item.name} cannot be read: {describe(error)}") from error
        if packed is None:
            raise ConfigError(f"{item.name} cannot be read.")
        return packed

    def _start(self, item: Input) -> dict:
        """Build a sample in the form in which a data set returns it."""
        if self.kind.is_clip:
            sample = dict(start_index=0, modality="RGB")
            if item.array is None:
                return dict(sample, filename=item.file)
            return dict(sample, frames=item.array, total_frames=len(item.array))
        if item.array is None:
            return dict(img_path=item.file)
        bgr = item.array[..., ::-1] if item.array.shape[-1] == 3 else item.array  # files are read to BGR
        image = np.ascontiguousarray(bgr)
        return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    def _reseed(self, sample: dict) -> dict:
        index = sample["sample_idx"]
        random.seed(f"{self._seed} {index}")
        np.random.seed([self._seed, index])
        torch.manual_seed(np.random.randint(2**31))
        return sample

    def _take_mask(self, sample: dict) -> dict:
        assert self._masks is not None  # this step exists only with masks
        return dict(sample, mask=self._masks[sample["sample_idx"]])


class InputDataset(Dataset):
    """Data set of inputs, prepared by a pipeline and accessed by their numbers.

    Args:
        items (Sequence[Input]): The inputs.
        pipeline (InputPipeline): The pipeline.
    """

    def __init__(self, items: Sequence[Input], pipeline: InputPipeline) -> None:
        self.items = items
        self.pipeline = pipeline

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return self.pipeline(self.items[index], index)


def list_inputs(inputs: object, kind: InputKind, title: str, channels: int = 3, bits: int = 8) -> list[Input]:
    """List files and arrays and check each as far as possible without decoding it. Every file is opened.

    Args:
        inputs (object): See :func:`find_inputs`.
        kind (InputKind): Kind of the files that are expected.
        title (str): Name of the config that expects them, for messages.
        channels (int): Channels of arrays, see :func:`.sample_channels`. Defaults to 3.
        bits (int): Bits of the pixels of arrays, see :func:`.sample_bits`. Defaults to 8.

    Returns:
        list[Input]: See :func:`find_inputs`.

    Raises:
        ConfigError: For the first input that does not exist, is of another kind, or is broken.
    """
    items = find_inputs(inputs, kind, title, channels, bits)
    for item in items:
        if item.array is None:
            kind.check_file(Path(item.file), item.name)
    return items


def find_inputs(inputs: object, kind: InputKind, title: str, channels: int = 3, bits: int = 8) -> list[Input]:
    """List files by their names only, and arrays. No file is opened. URLs are downloaded.

    Args:
        inputs (object): The path of a file, of a folder with files at any depth, or of a manifest of ``maskfeat index``
            (``.parquet``; its readable files of the expected kind are used); a URL of http or https, see
            :func:`.fetch`; an array, a tensor or a PIL image, see :func:`.to_array`; a list or tuple of any of these.
        kind (InputKind): Kind of the files that are expected.
        title (str): Name of the config that expects them, for messages.
        channels (int): Channels of arrays, see :func:`.sample_channels`. Defaults to 3.
        bits (int): Bits of the pixels of arrays, see :func:`.sample_bits`. Defaults to 8.

    Returns:
        list[Input]: In the order of the list; the files of a folder or a manifest in the order of their paths.

    Raises:
        ConfigError: For the first input that does not exist, cannot be downloaded or, by its name or shape, is of
            another kind.
    """
    items: list[Input] = []
    for number, given in enumerate(inputs if isinstance(inputs, list | tuple) else [inputs]):
        if isinstance(given, str | Path) and _URL.match(str(given)):
            items.append(_download(_URL.sub(r"\1://", str(given)), kind, title))
        elif isinstance(given, str | Path) and is_manifest(given):
            items += map(Input, _manifest_files(Path(given), kind, title))
        elif isinstance(given, str | Path):
            items += [Input(str(path)) for path in _files(Path(given), kind, title)]
        elif isinstance(given, GIVEN):
            name = f"{_word(given)} {number}"
            items.append(Input(name, to_array(given, name, kind, title, channels, bits)))
        else:
            raise ConfigError(
                f"input {number} is of the type {type(given).__name__}; give paths, URLs, numpy arrays, tensors, PIL "
                "images or a list of them."
            )
    if not items:
        raise ConfigError("there is no input: the list is empty.")
    return items


def _word(given: object) -> str:
    return "array" if isinstance(given, np.ndarray) else "tensor" if isinstance(given, torch.Tensor) else "image"


def _download(url: str, kind: InputKind, title: str) -> Input:
    kind.check_name(PurePosixPath(urlparse(url).path), title, url)
    try:
        return Input(url, downloaded=str(fetch(url, lambda path: None)[0]))
    except DownloadError as error:
        raise ConfigError(str(error)) from error


def _manifest_files(path: Path, kind: InputKind, title: str) -> list[str]:
    if kind not in _IN_MANIFESTS:
        raise ConfigError(f"the manifest {path} lists images and videos, and {title} takes {kind.plural}. Give files.")
    manifest = read_manifest(path, ("path", "path_bytes", "kind", "problem"))
    files = manifest.readable(_IN_MANIFESTS[kind]).paths()
    if not files:
        raise ConfigError(
            f"the manifest {path} has no readable {kind.name}, and {title} takes {kind.plural}. Give another one."
        )
    return files


def _files(path: Path, kind: InputKind, title: str) -> list[Path]:
    if path.is_file():
        kind.check_name(path, title)
        return [path]
    if not path.is_dir():
        raise ConfigError(f"the input {path} does not exist.")
    found = find_files(path, kind.endings)
    skipped = found.describe_skipped()
    if not found.files:
        for file in found.others:
            kind.check_name(file, title)
        hint = f"; left out: {skipped}" if skipped else ""
        raise ConfigError(f"the folder {path} has no files that end in {', '.join(kind.endings)}{hint}.")
    if skipped:
        logging.getLogger(__name__).warning(
            f"{printable(path)}: {len(found.files)} files are used; left out: {skipped}."
        )
    return found.files


def _pipeline_of(cfg: Config, key: str) -> Sequence[dict] | None:
    """Return the pipeline of a dataloader, also through mmengine's data set wrappers; None if there is none."""
    dataset = (cfg.get(key) or {}).get("dataset") or {}
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return dataset.get("pipeline")


def _settled(transform: dict, following: Sequence[dict], scope: str | None) -> list[dict]:
    """Return the deterministic transforms that replace a random one, given the transforms that follow it."""
    kind = class_name(transform)
    settled = dict(transform)
    if kind in _SAMPLE_FRAMES:
        settled.update(test_mode=True, num_clips=1)
        settled.pop("temporal_jitter", None)
        settled.pop("twice_sample", None)
    elif kind == "RandomCrop":
        return _central_crops(transform, scope)
    elif kind == "MovingResizedCrop" or kind == "RandomResizedCrop" and "scale" in transform:  # both resize too
        if kind == "MovingResizedCrop":
            settled["type"] = "mmpretrain.RandomResizedCrop"
        settled.pop("crop_ratio_range", None)
        ratio = _aspect_ratio(size_after(transform, None, scope))
        # with 0 random attempts it uses the largest central crop of this ratio
        settled.update(max_attempts=0, aspect_ratio_range=(ratio, ratio))
    elif kind == "RandomResizedCrop":  # mmaction2's crop, which another transform resizes
        size = next((size for step in following if (size := size_after(step, None, scope)) is not None), None)
        return [dict(type="maskfeat.CentralCrop", aspect_ratio=_aspect_ratio(size), lazy=transform.get("lazy", False))]
    elif kind in ("RandomResizedCropFlip", "MovingResizedCropFlip"):  # this package's crops, which also resize
        settings = {name: transform[name] for name in ("scale", "interpolation") if name in transform}
        return [dict(type="maskfeat.CentralResizedCrop", **settings)]
    return [settled]


def _aspect_ratio(size: tuple[int, int] | None) -> float:
    """Return width / height of a size (H, W), 1 if the size is unknown."""
    return 1.0 if size is None else size[1] / size[0]


def _central_crops(transform: dict, scope: str | None) -> list[dict]:
    """Return a central crop with the size of a random crop, or the random crop itself if its size is random."""
    size = size_after(transform, None, scope)
    if size is None:
        return [dict(transform)]
    package, _ = known_class(transform, scope) or ("mmaction" if "size" in transform else "mmpretrain", None)
    pads = dict(auto_pad=True) if transform.get("pad_if_needed") else {}
    return [dict(type=f"{package}.CenterCrop", crop_size=size[::-1], **pads)]  # mmaction2 and mmcv take (W, H)


def _is_mask_generator(transform: dict) -> bool:
    return class_name(transform).endswith("MaskGenerator")


def _build_masks(config: dict, ratio: float | None) -> Callable[[dict], Any]:
    """Build a mask generator that uses the global random state, with another ratio if one is given."""
    config = {key: value for key, value in config.items() if key != "seed"}
    if ratio is not None:
        if not isinstance(ratio, int | float) or not 0 < ratio < 1:
            raise ConfigError(f"mask_ratio={ratio!r} has to be a number between 0 and 1.")
        found = mask_grid(config)
        if found is not None and "num_masking_patches" in config:  # mmpretrain's BEiTMaskGenerator
            config["num_masking_patches"] = count_masked(ratio, prod(found[1]))
        else:
            config["mask_ratio"] = ratio
    return TRANSFORMS.build(config)


def _take_frames(sample: dict) -> dict:
    """Select the chosen frames of an array, as decoding does for a video file."""
    frames = sample.pop("frames")
    images = [frames[index] for index in sample["frame_inds"].reshape(-1)]
    return dict(sample, imgs=images, original_shape=images[0].shape[:2], img_shape=images[0].shape[:2])
