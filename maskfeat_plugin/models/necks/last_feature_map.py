"""From a backbone of several outputs to a head that takes one."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class LastFeatureMap(BaseModule):
    """The last feature map of :class:`MViT`, for mmaction2's heads of 3D convolutional networks, such as ``I3DHead``.

    A neck of mmaction2's recognizers, without parameters.
    """

    def forward(self, inputs: Sequence, data_samples: Sequence | None = None) -> tuple[Tensor, dict]:
        """Choose the map.

        Args:
            inputs (Sequence): For each scale a feature map (N, C, T', H', W'), or a list of it and a vector.
            data_samples (Sequence, optional): Unused. Defaults to None.

        Returns:
            tuple[Tensor, dict]: The last map (N, C, T', H', W'), and no further losses.
        """
        last = inputs[-1]
        return (last if isinstance(last, Tensor) else last[0]), {}
