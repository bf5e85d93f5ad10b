"""Features of boxes in clips, with boxes aligned to the centres of the tokens."""

from typing import Any

from mmaction.models.roi_heads import SingleRoIExtractor3D
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class CentredRoIExtractor3D(SingleRoIExtractor3D):
    """``mmaction.SingleRoIExtractor3D`` for feature maps whose first token is not centred at half a stride.

    RoIAlign assumes that token i of a map with stride s is centred at s * (i + 0.5) pixels. This is true for patches
    without overlap. MViT's patches and poolings overlap and are padded, so its token i is centred at s * i + 0.5.
    Without a correction, boxes would be read almost half a token too far to the upper left: 15.5 pixels at stride 32.
    This class moves the boxes by this distance.

    Args:
        featmap_stride (int): Pixels from one token to the next. Defaults to 32, the last scale of MViT.
        token_centre (float): Pixels from the frame's edge to the centre of the first token. Defaults to 0.5, MViT's.
        **kwargs: All other arguments of ``mmaction.SingleRoIExtractor3D``.
    """

    def __init__(self, featmap_stride: int = 32, token_centre: float = 0.5, **kwargs: Any) -> None:
        super().__init__(featmap_stride=featmap_stride, **kwargs)
        # the legacy RoIAlign assumes that the first token is centred on the edge
        assumed = featmap_stride / 2 if self.aligned else 0.0
        self.shift = assumed - token_centre

    def forward(self, feat: Tensor | tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Extract the features of boxes.

        Args:
            feat (Tensor | tuple[Tensor, ...]): Feature maps (N, C, T', H', W').
            rois (Tensor): (K, 5): index of the clip and x1, y1, x2, y2 in pixels.

        Returns:
            tuple[Tensor, Tensor]: Features (K, C, 1 or T', output_size, output_size) and the map that was used.
        """
        moved = rois.clone()
        moved[:, 1:] += self.shift
        return super().forward(feat, moved)
