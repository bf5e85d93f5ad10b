"""Transform that makes several views of an image or a clip."""

import copy
from collections.abc import Callable

import numpy as np
from mmpretrain.datasets.transforms import MultiView as _MultiView

from maskfeat_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiView(_MultiView):
    """``mmpretrain.MultiView`` that also makes views of clips.

    The views of an image are a list ``img``, as mmpretrain's class returns them. The views of a clip are the clips of
    one sample, ``imgs`` (M, C, T, H, W), so each list of transforms of a clip ends with ``FormatShape``. Put mask
    generators after this transform: they draw a mask for each view.

    Args:
        transforms (list[list[dict | Callable]]): One list of transforms for each kind of view.
        num_views (int | list[int]): Number of views of each kind. One number if there is one kind.

    Raises:
        ValueError: If the numbers of lists differ.
    """

    def __init__(self, transforms: list[list[dict | Callable[[dict], dict]]], num_views: int | list[int]) -> None:
        numbers = [num_views] if isinstance(num_views, int) else list(num_views)
        if len(numbers) != len(transforms) or not all(isinstance(kind, list | tuple) for kind in transforms):
            raise ValueError(
                f"MultiView: transforms has to be a list of {len(numbers)} lists of transforms, one for each number of "
                f"num_views={num_views}."
            )
        super().__init__(transforms, numbers)

    def transform(self, results: dict) -> dict | None:
        """Make the views.

        Args:
            results (dict): A sample with ``img``, or with ``imgs``, the frames of a clip.

        Returns:
            dict | None: The sample of the first view, with the pixels of all views. None if a transform returns none.

        Raises:
            ValueError: If a clip is not in the format NCTHW.
        """
        views = [transform(copy.deepcopy(results)) for transform in self.transforms]
        if any(view is None for view in views):  # a damaged sample, which the data set replaces
            return None
        if "imgs" not in views[0]:
            return dict(views[0], img=[view["img"] for view in views])
        clips = [view["imgs"] for view in views]
        if any(np.ndim(clip) != 5 for clip in clips):
            raise ValueError("MultiView: the views of a clip must end with FormatShape(input_format='NCTHW').")
        return dict(views[0], imgs=np.concatenate(clips))
