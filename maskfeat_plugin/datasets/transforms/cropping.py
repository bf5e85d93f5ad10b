"""Crops of images and clips: together with resizing and flipping, for wide pictures, or from the centre."""

import random

import cv2
import numpy as np
from mmaction.datasets.transforms import Flip, RandomResizedCrop, Resize
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import RandomResizedCrop as ImageCrop

from maskfeat_plugin.registry import TRANSFORMS

_INTERPOLATIONS = dict(bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA)


class _MovingClipCrop(RandomResizedCrop):
    """mmaction2's ``RandomResizedCrop``, but the fallback crop has a random place along the long side."""

    @staticmethod
    def get_crop_bbox(
        img_shape: tuple[int, int],
        area_range: tuple[float, float],
        aspect_ratio_range: tuple[float, float],
        max_attempts: int = 10,
    ) -> tuple[int, int, int, int]:
        """Compute the corners (left, top, right, bottom) of the crop in an image of (H, W)."""
        box = RandomResizedCrop.get_crop_bbox(img_shape, area_range, aspect_ratio_range, max_attempts)
        left, top, right, bottom = (int(side) for side in box)
        height, width = bottom - top, right - left
        top, left = _moved(top, left, height, width, img_shape)
        return left, top, left + width, top + height


@TRANSFORMS.register_module()
class RandomResizedCropFlip(BaseTransform):
    """mmaction2's ``RandomResizedCrop``, ``Resize`` and ``Flip`` in one step, into one array for all frames.

    The same random numbers give the same pixels and the same keys as the three transforms in a row. These transforms
    compute everything here except the pixels, so that boxes and labels follow too.

    Required keys: ``imgs``, ``img_shape``, ``modality`` ("RGB"). Modified keys: ``imgs``, (T, H, W, C) with the type of
    the frames, and the keys that the three transforms modify.

    Args:
        scale (tuple[int, int]): Size (W, H) of the result.
        area_range (tuple[float, float]): Share of the area of the crop. Defaults to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Ratio of width to height of the crop. Defaults to (3 / 4, 4 / 3).
        flip_ratio (float): Probability of a horizontal flip. Defaults to 0.5.
        interpolation (str): "bilinear", "bicubic" or "area". Defaults to "bilinear".

    Raises:
        ValueError: If ``scale`` is no pair of positive integers, or if ``interpolation`` is unknown.
    """

    _crop = RandomResizedCrop

    def __init__(
        self,
        scale: tuple[int, int],
        area_range: tuple[float, float] = (0.08, 1.0),
        aspect_ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
        flip_ratio: float = 0.5,
        interpolation: str = "bilinear",
    ) -> None:
        scale = tuple(scale)
        if len(scale) != 2 or not all(isinstance(side, int) and side > 0 for side in scale):
            raise ValueError(f"RandomResizedCropFlip: scale={scale} must be two positive integers (W, H).")
        if interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"RandomResizedCropFlip: interpolation={interpolation!r} is unknown; choose one of "
                f"{', '.join(map(repr, _INTERPOLATIONS))}."
            )
        self.scale = scale
        self.interpolation = interpolation
        self.geometry = (
            self._crop(tuple(area_range), tuple(aspect_ratio_range)),
            Resize(scale, keep_ratio=False, interpolation=interpolation),
            Flip(flip_ratio),
        )

    def transform(self, results: dict) -> dict:
        """Crop, resize and flip all frames in the same way.

        Raises:
            ValueError: If the frames are not RGB.
        """
        if results["modality"] != "RGB":
            raise ValueError(f"RandomResizedCropFlip: frames must be RGB, not {results['modality']!r}.")
        frames = results.pop("imgs")
        for step in self.geometry:
            results = step(results)
        left, top, right, bottom = results["crop_bbox"]
        width, height = self.scale
        channels = frames[0].shape[2] if frames[0].ndim == 3 else 1
        clip = np.empty((len(frames), height, width, channels), frames[0].dtype)
        for image, frame in zip(clip[..., 0] if channels == 1 else clip, frames, strict=True):
            kept = frame[top:bottom, left:right]
            cv2.resize(kept, self.scale, dst=image, interpolation=_INTERPOLATIONS[self.interpolation])
            if results["flip"]:
                cv2.flip(image, 1, dst=image)
        results["imgs"] = clip
        return results

    def __repr__(self) -> str:
        crop, _, flip = self.geometry
        return (
            f"{type(self).__name__}(scale={self.scale}, area_range={crop.area_range}, "
            f"aspect_ratio_range={crop.aspect_ratio_range}, flip_ratio={flip.flip_ratio}, "
            f"interpolation={self.interpolation!r})"
        )


@TRANSFORMS.register_module()
class MovingResizedCropFlip(RandomResizedCropFlip):
    """:class:`RandomResizedCropFlip` that can crop all parts of wide and tall clips.

    If a clip is wider than 8 / 3 of its height, no crop with half of the area and a ratio of sides of at most 4 / 3
    fits. mmaction2's class then always takes the largest central square. This class takes that square at a random place
    along the long side.

    Args:
        scale (tuple[int, int]): Size (W, H) of the result.
        area_range (tuple[float, float]): Share of the area of the crop. Defaults to (0.08, 1.0).
        aspect_ratio_range (tuple[float, float]): Ratio of width to height of the crop. Defaults to (3 / 4, 4 / 3).
        flip_ratio (float): Probability of a horizontal flip. Defaults to 0.5.
        interpolation (str): "bilinear", "bicubic" or "area". Defaults to "bilinear".

    Raises:
        ValueError: As for :class:`RandomResizedCropFlip`.
    """

    _crop = _MovingClipCrop


@TRANSFORMS.register_module()
class MovingResizedCrop(ImageCrop):
    """``mmpretrain.RandomResizedCrop`` that can crop all parts of wide and tall images.

    If no crop with the wanted area and ratio of sides fits, mmpretrain's class always takes a central crop: the largest
    one with the most extreme ratio that is allowed. This class takes that crop at a random place along the long side.

    Arguments and keys are as for ``mmpretrain.RandomResizedCrop``.
    """

    def rand_crop_params(self, img: np.ndarray) -> tuple[int, int, int, int]:
        """Draw the crop (top, left, height, width) of an image (H, W, C)."""
        top, left, height, width = super().rand_crop_params(img)
        return *_moved(top, left, height, width, img.shape[:2]), height, width


def _moved(top: int, left: int, height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Draw the place of a crop along the long side again, if it is the central crop of the full height or width."""
    # If a random crop happens to be there, the new place is just as random
    if height == size[0] and 0 < left == (size[1] - width) // 2:
        left = random.randint(0, size[1] - width)
    elif width == size[1] and 0 < top == (size[0] - height) // 2:
        top = random.randint(0, size[0] - height)
    return top, left


@TRANSFORMS.register_module()
class CentralResizedCrop(RandomResizedCropFlip):
    """:class:`RandomResizedCropFlip` without flip, with the largest central crop that has the result's ratio of sides.

    Args:
        scale (tuple[int, int]): Size (W, H) of the result.
        interpolation (str): "bilinear", "bicubic" or "area". Defaults to "bilinear".
    """

    def __init__(self, scale: tuple[int, int], interpolation: str = "bilinear") -> None:
        super().__init__(scale, flip_ratio=0.0, interpolation=interpolation)
        self.geometry = (CentralCrop(self.scale[0] / self.scale[1]), *self.geometry[1:])


@TRANSFORMS.register_module()
class CentralCrop(RandomResizedCrop):
    """Largest central crop with a given ratio of sides, to replace mmaction2's ``RandomResizedCrop``.

    Required and modified keys are as for ``mmaction.RandomResizedCrop``.

    Args:
        aspect_ratio (float): Ratio of width to height of the crop. Defaults to 1.0.
        lazy (bool): As for ``mmaction.RandomResizedCrop``. Defaults to False.
    """

    def __init__(self, aspect_ratio: float = 1.0, lazy: bool = False) -> None:
        super().__init__((1.0, 1.0), (aspect_ratio, aspect_ratio), lazy)

    @staticmethod
    def get_crop_bbox(
        img_shape: tuple[int, int],
        area_range: tuple[float, float],
        aspect_ratio_range: tuple[float, float],
        max_attempts: int = 0,
    ) -> tuple[int, int, int, int]:
        """Compute the corners (left, top, right, bottom) of the crop in an image of (H, W)."""
        (height, width), ratio = img_shape, aspect_ratio_range[0]
        crop_width = max(min(width, round(height * ratio)), 1)
        crop_height = max(min(height, round(width / ratio)), 1)
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        return left, top, left + crop_width, top + crop_height
