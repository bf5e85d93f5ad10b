"""Reader of chosen slices of a volume."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from maskfeat_plugin.errors import reading


class VolumeReader:
    """Slices of a volume by their numbers, with the interface of :class:`VideoReader`. Others are not read.

    Args:
        source (str | bytes): Path of a .npy file, which is mapped and not read, or its content.
        name (str): The name of the file in messages.
        window (tuple[float, float], optional): The values that become 0 and 255. None for a volume of uint8.
        axis (int): The axis of the slices.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is no array of numbers with three axes, or four with the channels last; if it is
            damaged or empty; or if another type than uint8 has no window.
    """

    def __init__(self, source: str | bytes, name: str, window: tuple[float, float] | None, axis: int) -> None:
        if isinstance(source, str) and not os.path.exists(source):
            raise FileNotFoundError(f"{name} does not exist.")
        volume = _load(source, name)
        if window is None and volume.dtype != np.uint8:
            raise ValueError(f"{name} is {volume.dtype}: set window=(low, high) of maskfeat.OpenVolume.")
        volume = np.moveaxis(volume, axis, 0)
        self._volume = volume if volume.ndim == 4 else volume[..., None]
        self._window = window

    def __len__(self) -> int:
        return len(self._volume)

    def get_avg_fps(self) -> None:
        """Return None: slices have no rate."""
        return None

    def read(self, indices: Sequence[int], short_side: int | None = None) -> list[np.ndarray]:
        """Read slices.

        Args:
            indices (Sequence[int]): Numbers of the slices in any order.
            short_side (int, optional): Pixels of the shorter side of the result. Defaults to None: the size in the
                file.

        Returns:
            list[np.ndarray]: One uint8 (H, W, C) array per number. NaN becomes 0.
        """
        slices = np.asarray(self._volume[np.asarray(indices, int)])
        if self._window is not None:
            low, high = self._window
            values = np.clip(np.nan_to_num(slices.astype(np.float32), nan=low), low, high)
            slices = ((values - low) / (high - low) * 255).round().astype(np.uint8)
        if short_side is None:
            return list(slices)
        height, width = slices.shape[1:3]
        scale = short_side / min(height, width)
        size = round(width * scale), round(height * scale)
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return [cv2.resize(image, size, interpolation=kind).reshape(*size[::-1], -1) for image in slices]


def check_volume(path: Path, name: str) -> None:
    """Check that a file is a volume, without reading its numbers.

    Args:
        path (Path): The file.
        name (str): Its name in messages.

    Raises:
        ValueError: If it is not, see :class:`VolumeReader`.
    """
    _load(str(path), name)


def _load(source: str | bytes, name: str) -> np.ndarray:
    with reading(name, "is no volume, or a broken one"):
        if isinstance(source, bytes):
            volume = np.load(io.BytesIO(source), allow_pickle=False)
        else:
            volume = np.load(source, mmap_mode="r", allow_pickle=False)
        if not isinstance(volume, np.ndarray):
            raise ValueError("it is an archive of arrays")
    if volume.ndim not in (3, 4) or volume.dtype.kind not in "buif" or not volume.size:
        raise ValueError(
            f"{name} is {volume.dtype} {volume.shape}. A volume has numbers in the shape (D, H, W) or (D, H, W, C)."
        )
    return volume
