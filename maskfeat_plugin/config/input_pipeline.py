"""From files and arrays to what a model takes, by the pipeline of its config without what is random in it."""

import logging
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope
from PIL import Image
from torch.utils.data import Dataset

from maskfeat_plugin.datasets.folders import IMAGE_ENDINGS, VIDEO_ENDINGS, find_files, printable
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO, is_manifest, read_manifest
from maskfeat_plugin.datasets.transforms.masking.base import count_masked
from maskfeat_plugin.datasets.video_reader import VideoReader
from maskfeat_plugin.downloads import DownloadError, fetch
from maskfeat_plugin.errors import ConfigError, describe, reading
from maskfeat_plugin.evaluation.features import preserved_random_state

from .checks import mask_grid
from .given_arrays import GIVEN, other_kind, to_array
from .origins import named_errors
from .sample_sizes import class_name, known_class, size_after

# What reads an image; what opens a video; what decodes the chosen frames of it
_READ_IMAGE = ("LoadImageFromFile", "LoadWholeImage")
OPEN_VIDEO = ("DecordInit", "OpenVideo", "PyAVInit", "OpenCVInit", "PIMSInit")
DECODE_VIDEO = ("DecordDecode", "DecodeClip", "PyAVDecode", "OpenCVDecode", "PIMSDecode")
_SAMPLE_FRAMES = ("SampleFrames", "DenseSampleFrames", "UniformSample")
# Changes of a sample that are for training alone
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


_URL = re.compile("^(https?):/+")  # a Path has one slash


@dataclass(frozen=True, slots=True)
class Input:
    """A file or an array.

    Args:
        name (str): What to call it: the path or the URL as it was given, or "array 3".
        array (np.ndarray, optional): RGB, (H, W, 3) or (T, H, W, 3), or as many channels as the model takes, in the
            order of its files; uint8 or uint16. None of a file.
        downloaded (str, optional): The file that a URL was downloaded to. Defaults to None.
    """

    name: str
    array: np.ndarray | None = None
    downloaded: str | None = None

    @property
    def file(self) -> str:
        """The path to read."""
        return self.downloaded or self.name


def takes_clips(pipeline: Sequence[dict], title: str) -> bool:
    """Whether a pipeline reads videos and not images.

    Args:
        pipeline (Sequence[dict]): Configs of its transforms.
        title (str): The config, for the message.

    Returns:
        bool: True for videos, False for images.

    Raises:
        ConfigError: If it reads neither from a file, but for example folders of frames.
    """
    kinds = [class_name(transform) for transform in _expand(pipeline)]
    for known, is_clip in ((OPEN_VIDEO, True), (_READ_IMAGE, False)):
        if any(kind in known for kind in kinds):
            return is_clip
    known = ", ".join((*_READ_IMAGE, *OPEN_VIDEO))
    raise ConfigError(f"the pipeline of {title} reads no files of images or videos: it has none of {known}.")


def without_randomness(pipeline: Sequence[dict], scope: str | None = None) -> list[dict]:
    """A training pipeline, each random transform left out or with a setting that leaves no choice.

    What is read from memory is read anew (``maskfeat.Cached``). Of a video the frames in its middle are taken. Random
    crops become central ones: as large as the image and the ratio of the sides allow if they are resized afterwards.

    Args:
        pipeline (Sequence[dict]): Configs of the transforms.
        scope (str, optional): ``default_scope`` of the config, see :func:`.input_size`. Defaults to None, the current
            one.

    Returns:
        list[dict]: Configs of the same transforms and of those in their place. Mask generators stay as they are.
    """
    steps = [transform for transform in _expand(pipeline) if class_name(transform) not in _AUGMENTATIONS]
    return [part for i, step in enumerate(steps) for part in _settled(step, steps[i + 1 :], scope)]


def inference_pipeline(cfg: Config) -> list[dict]:
    """The pipeline that the inputs of a config's model go through where nothing is trained.

    Args:
        cfg (Config): Config of pre-training, fine-tuning or testing.

    Returns:
        list[dict]: That of validation or testing, or the training pipeline :func:`without_randomness`.

    Raises:
        ConfigError: If the config has no data.
    """
    for key in ("val_dataloader", "test_dataloader"):
        pipeline = _pipeline_of(cfg, key)
        if pipeline is not None:
            return _expand(pipeline)
    return without_randomness(training_pipeline(cfg), cfg.get("default_scope"))


def training_pipeline(cfg: Config) -> Sequence[dict]:
    """The pipeline of a config's training data.

    Args:
        cfg (Config): The config.

    Returns:
        Sequence[dict]: Configs of the transforms.

    Raises:
        ConfigError: If it has none.
    """
    pipeline = _pipeline_of(cfg, "train_dataloader")
    if pipeline is None:
        raise ConfigError(f"{title_of(cfg)} has no train_dataloader.dataset.pipeline, which inputs would go through.")
    return pipeline


def title_of(cfg: Config) -> str:
    """What to call a config in a message."""
    return cfg.filename or "the config"


class InputPipeline:
    """Turns an input into what the data preprocessor takes, the same for the same number and seed.

    Args:
        cfg (Config): The config that the pipeline is of.
        pipeline (Sequence[dict]): Configs of the transforms, see :func:`inference_pipeline`.
        seed (int): Seed of the masks, and of whatever else draws numbers. Defaults to 0.
        mask_ratio (float, optional): Share of the tokens to hide. Defaults to None, that of the pipeline.
        masks (Sequence[np.ndarray], optional): Masks to take instead, bool (H', W') or (T', H', W'), one an input.
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
        self.takes_clips = takes_clips(pipeline, self.title)
        self._seed = seed
        self._masks = masks
        files: list[Callable[[dict], Any]] = [self._reseed]
        arrays: list[Callable[[dict], Any]] = [self._reseed]
        steps: list[Callable[[dict], Any]]
        with named_errors(cfg, "cannot be built"), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            for config in pipeline:
                kind = class_name(config)
                if _is_mask_generator(config):
                    needs_masks = False
                    steps = [self._take_mask] if masks is not None else [self._reseed, _build_masks(config, mask_ratio)]
                else:
                    steps = [TRANSFORMS.build(config)]
                files += steps
                if kind in DECODE_VIDEO:
                    arrays.append(_take_frames)
                elif kind not in (*_READ_IMAGE, *OPEN_VIDEO):
                    arrays += steps
        if needs_masks:
            raise ConfigError(f"the pipeline of {self.title} has no mask generator; give the config of a pre-training.")
        self._from_file, self._from_array = Compose(files), Compose(arrays)

    def __call__(self, item: Input, index: int) -> dict:
        """Read and transform an input.

        Args:
            item (Input): The input.
            index (int): Its number, which together with the seed decides on its mask.

        Returns:
            dict: What the packing transform makes: ``inputs`` and ``data_samples``. No random state is changed.

        Raises:
            ConfigError: If it cannot be read or transformed.
        """
        compose = self._from_file if item.array is None else self._from_array
        with preserved_random_state():
            try:
                packed = compose(dict(self._start(item), sample_idx=index))
            except Exception as error:  # decoders and transforms are anybody's
                raise ConfigError(f"{item.name} cannot be read: {describe(error)}") from error
        if packed is None:
            raise ConfigError(f"{item.name} cannot be read.")
        return packed

    def _start(self, item: Input) -> dict:
        """A sample as a data set gives it."""
        if self.takes_clips:
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
        assert self._masks is not None  # it is a step with masks alone
        return dict(sample, mask=self._masks[sample["sample_idx"]])


class InputDataset(Dataset):
    """Inputs through a pipeline, by their numbers.

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


def list_inputs(inputs: object, clips: bool, title: str, channels: int = 3, bits: int = 8) -> list[Input]:
    """List files and arrays, each checked as far as it can be without decoding it: every file is opened.

    Args:
        inputs (object): See :func:`find_inputs`.
        clips (bool): Whether videos are wanted, or images.
        title (str): The config that wants them, for messages.
        channels (int): Channels of arrays, see :func:`.sample_channels`. Defaults to 3.
        bits (int): Bits of the pixels of arrays, see :func:`.sample_bits`. Defaults to 8.

    Returns:
        list[Input]: See :func:`find_inputs`.

    Raises:
        ConfigError: With the first input that is not there, of the other kind, or broken.
    """
    items = find_inputs(inputs, clips, title, channels, bits)
    for item in items:
        if item.array is None:
            _check_file(Path(item.file), item.name, clips)
    return items


def find_inputs(inputs: object, clips: bool, title: str, channels: int = 3, bits: int = 8) -> list[Input]:
    """List files by their names alone, and arrays. No image or video is opened. URLs are downloaded.

    Args:
        inputs (object): Path of a file, of a folder with files at any depth, or of a manifest that ``maskfeat index``
            has written (``.parquet``: its readable files of the wanted kind); a URL of http or https, see
            :func:`.fetch`; an array, a tensor or a PIL image, see :func:`.to_array`; a list or tuple of any of these.
        clips (bool): Whether videos are wanted, or images.
        title (str): The config that wants them, for messages.
        channels (int): Channels of arrays, see :func:`.sample_channels`. Defaults to 3.
        bits (int): Bits of the pixels of arrays, see :func:`.sample_bits`. Defaults to 8.

    Returns:
        list[Input]: In the order of the list; the files of a folder or a manifest in the order of their paths.

    Raises:
        ConfigError: With the first input that is not there, cannot be downloaded or, as its name or shape tells, is of
            the other kind.
    """
    items: list[Input] = []
    for number, given in enumerate(inputs if isinstance(inputs, list | tuple) else [inputs]):
        if isinstance(given, str | Path) and _URL.match(str(given)):
            items.append(_download(_URL.sub(r"\1://", str(given)), clips, title))
        elif isinstance(given, str | Path) and is_manifest(given):
            items += map(Input, _manifest_files(Path(given), clips, title))
        elif isinstance(given, str | Path):
            items += [Input(str(path)) for path in _files(Path(given), clips, title)]
        elif isinstance(given, GIVEN):
            name = f"{_word(given)} {number}"
            items.append(Input(name, to_array(given, name, clips, title, channels, bits)))
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


def _download(url: str, clips: bool, title: str) -> Input:
    if _is_other_kind(Path(urlparse(url).path), clips):
        raise other_kind(url, clips, title)
    try:
        return Input(url, downloaded=str(fetch(url, lambda path: None)[0]))
    except DownloadError as error:
        raise ConfigError(str(error)) from error


def _is_other_kind(path: Path, clips: bool) -> bool:
    return path.suffix.lower() in (IMAGE_ENDINGS if clips else VIDEO_ENDINGS)


def _manifest_files(path: Path, clips: bool, title: str) -> list[str]:
    kind = VIDEO if clips else IMAGE
    files = read_manifest(path, ("path", "path_bytes", "kind", "problem")).readable(kind).paths()
    if not files:
        raise ConfigError(f"the manifest {path} has no readable {kind}, and {title} takes {kind}s. Give another one.")
    return files


def _files(path: Path, clips: bool, title: str) -> list[Path]:
    if path.is_file():
        if _is_other_kind(path, clips):
            raise other_kind(path, clips, title)
        return [path]
    if not path.is_dir():
        raise ConfigError(f"the input {path} does not exist.")
    endings = VIDEO_ENDINGS if clips else IMAGE_ENDINGS
    found = find_files(path, endings)
    skipped = found.describe_skipped()
    if not found.files:
        others = [file for file in found.others if _is_other_kind(file, clips)]
        if others:
            raise other_kind(others[0], clips, title)
        hint = f"; left out: {skipped}" if skipped else ""
        raise ConfigError(f"the folder {path} has no files that end in {', '.join(endings)}{hint}.")
    if skipped:
        logging.getLogger(__name__).warning(
            f"{printable(path)}: {len(found.files)} files are used; left out: {skipped}."
        )
    return found.files


def _check_file(path: Path, name: str, clips: bool) -> None:
    if not path.stat().st_size:
        raise ConfigError(f"{name} is empty.")
    if clips:
        try:
            VideoReader(str(path), name)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    elif not _is_image(path):
        raise ConfigError(f"{name} is no image that OpenCV reads.")


def _is_image(path: Path) -> bool:
    """Tell images from other files; ``cv2.haveImageReader`` crashes with names that are not UTF-8."""
    try:
        with Image.open(path):  # reads the header
            return True
    except Exception:  # OpenCV reads a few formats more
        pass
    with reading(printable(path), "is no image that OpenCV reads"):
        return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR) is not None


def _pipeline_of(cfg: Config, key: str) -> Sequence[dict] | None:
    """The pipeline of a dataloader, also of a data set in one of mmengine's wrappers; None if there is none."""
    dataset = (cfg.get(key) or {}).get("dataset") or {}
    while "pipeline" not in dataset and isinstance(dataset.get("dataset"), dict):
        dataset = dataset["dataset"]
    return dataset.get("pipeline")


def _expand(pipeline: Sequence[dict]) -> list[dict]:
    """Transforms with those in ``maskfeat.Cached`` in its place."""
    steps = []
    for transform in pipeline:
        steps += _expand(transform["transforms"]) if class_name(transform) == "Cached" else [transform]
    return steps


def _settled(transform: dict, following: Sequence[dict], scope: str | None) -> list[dict]:
    """Return the transforms that take the place of one and leave no choice, given those that follow it."""
    kind = class_name(transform)
    settled = dict(transform)
    if kind in _SAMPLE_FRAMES:
        settled.update(test_mode=True, num_clips=1)
        settled.pop("temporal_jitter", None)
        settled.pop("twice_sample", None)
    elif kind == "RandomCrop":
        return _central_crops(transform, scope)
    elif kind == "MovingResizedCrop" or kind == "RandomResizedCrop" and "scale" in transform:  # these resize too
        if kind == "MovingResizedCrop":
            settled["type"] = "mmpretrain.RandomResizedCrop"
        settled.pop("crop_ratio_range", None)
        ratio = _aspect_ratio(size_after(transform, None, scope))
        # after no attempt at random it takes the largest central crop of this ratio
        settled.update(max_attempts=0, aspect_ratio_range=(ratio, ratio))
    elif kind == "RandomResizedCrop":  # mmaction2's, which another transform resizes
        size = next((size for step in following if (size := size_after(step, None, scope)) is not None), None)
        return [dict(type="maskfeat.CentralCrop", aspect_ratio=_aspect_ratio(size), lazy=transform.get("lazy", False))]
    elif kind in ("RandomResizedCropFlip", "MovingResizedCropFlip"):  # ours, the same with its resizing
        settings = {name: transform[name] for name in ("scale", "interpolation") if name in transform}
        return [dict(type="maskfeat.CentralResizedCrop", **settings)]
    return [settled]


def _aspect_ratio(size: tuple[int, int] | None) -> float:
    """Width by height of (H, W); 1 if it is unknown."""
    return 1.0 if size is None else size[1] / size[0]


def _central_crops(transform: dict, scope: str | None) -> list[dict]:
    """Return a central crop of the size of a random one, or this one if its size is random too."""
    size = size_after(transform, None, scope)
    if size is None:
        return [dict(transform)]
    package, _ = known_class(transform, scope) or ("mmaction" if "size" in transform else "mmpretrain", None)
    return [dict(type=f"{package}.CenterCrop", crop_size=size[::-1])]  # each is mmaction2's or mmcv's: (W, H)


def _is_mask_generator(transform: dict) -> bool:
    return class_name(transform).endswith("MaskGenerator")


def _build_masks(config: dict, ratio: float | None) -> Callable[[dict], Any]:
    """A mask generator that draws from the global state, with another ratio."""
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
    """What decoding does, of frames that are there."""
    frames = sample.pop("frames")
    images = [frames[index] for index in sample["frame_inds"].reshape(-1)]
    return dict(sample, imgs=images, original_shape=images[0].shape[:2], img_shape=images[0].shape[:2])
