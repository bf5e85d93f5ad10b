"""Transform that runs other transforms only once per sample."""

import copy

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Cached(BaseTransform):
    """Wrapper that runs deterministic transforms once per sample, such as decoding, and keeps the results in memory.

    It is for data sets that fit into memory and are read for many epochs: decoding a short video file takes longer than
    a training step of a small model on it. Put random transforms after it, because inside it their first result would
    be kept. Each worker process of a dataloader keeps its own results as long as it lives
    (``persistent_workers=True``).

    Args:
        transforms (list[dict]): Configs of the transforms to run once.

    Raises:
        ValueError: If ``transforms`` is empty.
    """

    def __init__(self, transforms: list[dict]) -> None:
        if not transforms:
            raise ValueError("Cached: transforms is empty. List the transforms that run once per sample.")
        self.transforms = Compose(transforms)
        self._kept: dict[int, dict] = {}

    def transform(self, results: dict) -> dict | None:
        """Apply the transforms, or copy their earlier result.

        Args:
            results (dict): A sample with ``sample_idx``, which mmengine's data sets set.

        Returns:
            dict | None: The transformed sample, as a copy that the caller may change.
        """
        index = results["sample_idx"]
        if index not in self._kept:
            done = self.transforms(results)
            if done is None:  # a damaged sample, which the data set replaces
                return None
            self._kept[index] = done
        return copy.deepcopy(self._kept[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transforms})"
