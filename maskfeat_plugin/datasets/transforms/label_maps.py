"""Transforms for dense labels on disk, which follow crops and flips onto the token grid."""

import os
import random
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from maskfeat_plugin.errors import reading
from maskfeat_plugin.registry import TRANSFORMS

from ..sample_paths import sample_path


@TRANSFORMS.register_module()
class TrackCrop(BaseTransform):
    """Wrapper that runs crops, resizes and flips of an image and records the remaining part of the image.

    The transforms run a second time, with the same random numbers, on an image of its own coordinates. Its result shows
    the source of each pixel, for transforms of any name. mmaction2's transforms need no wrapper: they record the part
    themselves.

    Added keys: ``crop_region``, (x, y, w, h) of the result in the original image, 0 to 1; w or h is negative if
        flipped.

    Args:
        transforms (list[dict]): Configs of the transforms; shifts, scales and flips only.

    Raises:
        ValueError: If ``transforms`` is empty.
    """

    def __init__(self, transforms: list[dict]) -> None:
        if not transforms:
            raise ValueError("TrackCrop: transforms is empty. List the crops and flips to follow.")
        self.transforms = Compose(transforms)

    def transform(self, results: dict) -> dict | None:
        """Apply the transforms.

        Args:
            results (dict): A sample with ``img`` (H, W, 3).

        Returns:
            dict | None: The sample with the transformed ``img`` and ``crop_region``.
        """
        height, width = results["img"].shape[:2]
        x = np.broadcast_to((np.arange(width, dtype=np.float32) + 0.5) / width, (height, width))
        y = np.broadcast_to((np.arange(height, dtype=np.float32)[:, None] + 0.5) / height, (height, width))
        tracked = dict(img=np.stack((x, y), -1), img_shape=(height, width))
        states = np.random.get_state(), random.getstate()
        results = self.transforms(results)
        np.random.set_state(states[0])
        random.setstate(states[1])
        tracked = self.transforms(tracked)["img"]
        if results is None:
            return None
        start_x, step_x = _line(tracked[tracked.shape[0] // 2, :, 0])
        start_y, step_y = _line(tracked[:, tracked.shape[1] // 2, 1])
        results["crop_region"] = (start_x, start_y, step_x, step_y)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transforms})"


def _line(values: np.ndarray) -> tuple[float, float]:
    """Compute start and extent of values that rise evenly between the borders, where interpolation bends them."""
    length = len(values)
    low, high = length // 4, length - 1 - length // 4
    if low == high:
        return float(values[low]) - 0.5, 1.0
    step = float(values[high] - values[low]) / (high - low)
    return float(values[low]) - (low + 0.5) * step, step * length


@TRANSFORMS.register_module()
class LoadLabelMap(BaseTransform):
    """Transform that loads the dense labels of an image or a video for each of its tokens (token labelling).

    A file contains classes (h, w), one number per place (``.png``, ``.npy``), or scores and classes of the k best
    classes, (2, k, h, w), as token labelling stores them (``.npy``, ``.pt``). For videos, a time axis may stand before
    h; without it, the labels do not change with time. The places cover the whole image, and the time axis the whole
    video, evenly and at any resolution.

    For images, put the crops and flips into :class:`TrackCrop`. For clips, mmaction2's own transforms are followed; put
    this transform after all of them.

    Added keys: ``label_map``, float32 (2, E, T', H', W') or, for several clips, (M, 2, E, T', H', W'): scores and
        places at ``points`` x ``points`` positions of each token.

    Args:
        token_grid (Sequence[int]): Token grid of the backbone, (H', W') for images or (T', H', W') for clips.
        data_root (str): Folder of the images or videos.
        label_root (str): Folder of the label maps. Their paths below it are as below ``data_root``, except the ending.
        suffix (str): Ending of the label maps, ".png", ".npy" or ".pt". Defaults to ".npy".
        points (int): Number of positions in a token, in each direction. Defaults to 4.
        ignore_index (int): The class that means no label. Defaults to 255.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        token_grid: Sequence[int],
        data_root: str,
        label_root: str,
        suffix: str = ".npy",
        points: int = 4,
        ignore_index: int = 255,
    ) -> None:
        if len(token_grid) not in (2, 3) or any(g < 1 for g in token_grid):
            raise ValueError(
                f"LoadLabelMap: token_grid={token_grid!r} must be positive integers (H', W') or (T', H', W')."
            )
        if suffix not in (".png", ".npy", ".pt"):
            raise ValueError(f"LoadLabelMap: suffix={suffix!r} is unknown; choose '.png', '.npy' or '.pt'.")
        if points < 1:
            raise ValueError(f"LoadLabelMap: points must be positive, got {points}.")
        self.token_grid = tuple(token_grid)
        self.data_root = data_root
        self.label_root = label_root
        self.suffix = suffix
        self.points = points
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Add ``label_map`` to a sample.

        Raises:
            FileNotFoundError: If there is no label map.
            ValueError: If it has another form, if the sample has no path, or if the crops of an image were not tracked.
        """
        path = self._path(results)
        maps = self._read(path)  # (2, k, t, h, w)
        x, y, width, height = _region(results)
        rows, cols = self.token_grid[-2:]
        columns = _places(x, width, cols * self.points, maps.shape[-1])
        lines = _places(y, height, rows * self.points, maps.shape[-2])
        maps = maps[..., lines[:, None], columns]  # (2, k, t, H'*p, W'*p)
        times = self._times(results, maps.shape[2])  # (M, T')
        maps = maps[:, :, times]  # (2, k, M, T', H'*p, W'*p)
        p, (k, clips, steps) = self.points, maps.shape[1:4]
        maps = maps.reshape(2, k, clips, steps, rows, p, cols, p).transpose(2, 0, 1, 5, 7, 3, 4, 6)
        maps = maps.reshape(clips, 2, k * p * p, steps, rows, cols)
        results["label_map"] = np.ascontiguousarray(maps if clips > 1 else maps[0], dtype=np.float32)
        return results

    def _path(self, results: dict) -> Path:
        source = sample_path(results)
        if source is None:
            raise ValueError(
                "LoadLabelMap: the sample has no path, which is needed to find its label map. Put LoadLabelMap before "
                f"the transform that removes the path. The sample has {', '.join(sorted(results))}."
            )
        path = Path(self.label_root, os.path.relpath(source, self.data_root)).with_suffix(self.suffix)
        if not path.is_file():
            raise FileNotFoundError(
                f"LoadLabelMap: {path}, the label map of {source}, is not there. Set data_root (now "
                f"{self.data_root!r}) and label_root (now {self.label_root!r}) to the folders of the data and of the "
                "label maps."
            )
        return path

    def _read(self, path: Path) -> np.ndarray:
        """Read scores and classes (2, k, t, h, w). A class that means no label gets the score 0."""
        with reading(path, "is no label map, or is damaged"):
            if self.suffix == ".png":
                maps = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            elif self.suffix == ".npy":
                maps = np.load(path, allow_pickle=False)
            else:
                maps = torch.load(path, weights_only=True).float().numpy()
            if not isinstance(maps, np.ndarray) or maps.dtype.kind not in "biuf":
                raise ValueError("it holds no numbers")
        clips = len(self.token_grid) == 3
        if maps.ndim == 2 or (maps.ndim == 3 and clips):
            labelled = maps != self.ignore_index
            maps = np.stack((labelled, np.where(labelled, maps, 0)))[:, None]  # (2, 1, [t,] h, w)
        if maps.ndim == 4:
            maps = maps[:, :, None]
        if maps.ndim != 5 or len(maps) != 2 or (maps.shape[2] > 1 and not clips):
            shapes = "(h, w) or (2, k, h, w)" + (", or either with t before h" if clips else "")
            raise ValueError(f"{path} has the shape {maps.shape}. A label map for this token grid has {shapes}.")
        return maps.astype(np.float32)

    def _times(self, results: dict, length: int) -> np.ndarray:
        """Compute indices (M, T') into a map's time axis, for the first frame of each token of each clip."""
        steps = self.token_grid[0] if len(self.token_grid) == 3 else 1
        if length == 1:
            return np.zeros((results.get("num_clips", 1), steps), dtype=int)
        frames = np.asarray(results["frame_inds"]).reshape(results["num_clips"], steps, -1)[..., 0]
        return np.clip(((frames + 0.5) / results["total_frames"] * length).astype(int), 0, length - 1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(token_grid={self.token_grid}, data_root={self.data_root!r}, "
            f"label_root={self.label_root!r}, suffix={self.suffix!r}, points={self.points}, "
            f"ignore_index={self.ignore_index})"
        )


def _region(results: dict) -> tuple[float, float, float, float]:
    """Return the part (x, y, w, h) of the image that remains after the crops."""
    if "crop_region" in results:
        return results["crop_region"]
    if "img" in results:
        raise ValueError(
            "LoadLabelMap: the remaining part of the image is unknown. Put the crops, resizes and flips into "
            "dict(type='maskfeat.TrackCrop', transforms=[...])."
        )
    x, y, width, height = (float(v) for v in results.get("crop_quadruple", (0, 0, 1, 1)))
    if results.get("flip"):
        if results.get("flip_direction", "horizontal") == "horizontal":
            x, width = x + width, -width
        else:
            y, height = y + height, -height
    return x, y, width, height


def _places(start: float, extent: float, number: int, length: int) -> np.ndarray:
    """Compute the nearest indices into an axis of ``length`` for ``number`` even positions in a part of it."""
    at = start + extent * (np.arange(number) + 0.5) / number
    return np.clip(np.floor(at * length), 0, length - 1).astype(int)
