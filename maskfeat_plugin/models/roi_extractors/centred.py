"""Features of boxes in clips, taken where the tokens are centred."""

from typing import Any

from mmaction.models.roi_heads import SingleRoIExtractor3D
from torch import Tensor

from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class CentredRoIExtractor3D(SingleRoIExtractor3D):
    """``mmaction.SingleRoIExtractor3D`` for feature maps whose first token is not centred half a stride into the frame.

    RoIAlign takes token i of a map of stride s to be centred at s * (i + 0.5) pixels, as patches without overlap are.
    MViT's patches and poolings overlap and are padded: its token i is centred at s * i + 0.5, so that boxes would be
    read almost half a token, 15.5 pixels at stride 32, too far to the upper left. Boxes are moved by that much here.

    Args:
        featmap_stride (int): Pixels from one token to the next. Defaults to 32, MViT's last scale.
        token_centre (float): Pixels from the frame's edge to the centre of the first token. Defaults to 0.5, MViT's.
        **kwargs: Everything else of ``mmaction.SingleRoIExtractor3D``.
    """

    def __init__(self, featmap_stride: int = 32, token_centre: float = 0.5, **kwargs: Any) -> None:
        super().__init__(featmap_stride=featmap_stride, **kwargs)
        # the legacy RoIAlign takes the first token to be centred on the edge
        assumed = featmap_stride / 2 if self.aligned else 0.0
        self.shift = assumed - token_centre

    def forward(self, feat: Tensor | tuple[Tensor, ...], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Take the features of boxes.

        Args:
            feat (Tensor | tuple[Tensor, ...]): Feature maps (N, C, T', H', W').
            rois (Tensor): (K, 5), number of the clip and x1, y1, x2, y2 in pixels.

        Returns:
            tuple[Tensor, Tensor]: Features (K, C, 1 or T', output_size, output_size) and the map they are from.
        """
        moved = rois.clone()
        moved[:, 1:] += self.shift
        return super().forward(feat, moved)
