"""Transforms that run once a sample."""

import copy

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Cached(BaseTransform):
    """Runs deterministic transforms once a sample, such as decoding and resizing, and keeps the result in memory.

    For data sets small enough for the memory that are read for many epochs: decoding a short video file takes longer
    than a training step of a small model on it. Random transforms belong after it: in it their first outcome would be
    kept. Each worker process of a dataloader keeps what it has read itself, as long as it lives
    (``persistent_workers=True``).

    Args:
        transforms (list[dict]): Configs of the transforms to run once.

    Raises:
        ValueError: If ``transforms`` is empty.
    """

    def __init__(self, transforms: list[dict]) -> None:
        if not transforms:
            raise ValueError("Cached: transforms is empty; list what is to run once a sample.")
        self.transforms = Compose(transforms)
        self._kept: dict[int, dict] = {}

    def transform(self, results: dict) -> dict | None:
        """Apply the transforms, or copy what they gave before.

        Args:
            results (dict): A sample with ``sample_idx``, as mmengine's data sets give it.

        Returns:
            dict | None: The transformed sample, the caller's own copy.
        """
        index = results["sample_idx"]
        if index not in self._kept:
            done = self.transforms(results)
            if done is None:  # a broken sample, which the data set replaces
                return None
            self._kept[index] = done
        return copy.deepcopy(self._kept[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transforms})"
