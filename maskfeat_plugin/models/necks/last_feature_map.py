"""A neck that passes the last of several backbone outputs to a head."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class LastFeatureMap(BaseModule):
    """Neck that returns the last feature map of :class:`MViT`, for heads of 3D convolutional networks of mmaction2.

    An example of such a head is ``I3DHead``. Use it as the neck of mmaction2's recognizers. It has no parameters.
    """

    def forward(self, inputs: Sequence, data_samples: Sequence | None = None) -> tuple[Tensor, dict]:
        """Return the last map.

        Args:
            inputs (Sequence): For each scale a feature map (N, C, T', H', W'), or a list of the map and a vector.
            data_samples (Sequence, optional): Unused. Defaults to None.

        Returns:
            tuple[Tensor, dict]: The last map (N, C, T', H', W'), and an empty dict: there are no further losses.
        """
        last = inputs[-1]
        return (last if isinstance(last, Tensor) else last[0]), {}
