"""Transform that builds clips from frames."""

import numpy as np
from mmaction.datasets.transforms import FormatShape as _FormatShape

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FormatShape(_FormatShape):
    """``mmaction.FormatShape`` that also accepts frames with one channel, (H, W). OpenCV drops that axis in resizing.

    Arguments and keys are as for ``mmaction.FormatShape``.
    """

    def transform(self, results: dict) -> dict:
        """Stack the frames, including frames with one channel."""
        frames = results.get("imgs")
        if frames is not None and np.ndim(frames[0]) == 2:
            results = dict(results, imgs=[frame[..., None] for frame in frames])
        return super().transform(results)
