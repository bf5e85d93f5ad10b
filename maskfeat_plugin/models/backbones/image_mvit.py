"""MViT on images, with one feature map per scale."""

from typing import Any

import torch.nn.functional as F
from mmaction.models.utils.embed import PatchEmbed3D
from torch import Tensor, nn

from maskfeat_plugin.ops.gate import may_bypass
from maskfeat_plugin.registry import MODELS

from ..utils import check_divisible
from .mvit import MViT


@MODELS.register_module()
class ImageMViT(MViT):
    """:class:`MViT` as the backbone of a feature pyramid: it takes images and returns one feature map per scale.

    An image is treated as a clip of equal frames with one token step. The temporal kernel of the patch embedding is
    summed, because every frame is the same image. The relative positions in time are the ones of distance zero. So
    the weights of a video model load without a change. Upstream's ``MViT`` with several ``out_scales`` passes the
    normalised tokens on to the next block. Here a norm changes only the output of its scale, because the pre-trained
    blocks never saw normalised tokens.

    Args:
        arch (str | dict): Architecture, see :class:`MViT`. Defaults to "small".
        spatial_size (int): Usual input size in pixels; other sizes are possible. Defaults to 1024.
        temporal_size (int): Number of frames of the clips that the weights were trained on. Defaults to 16.
        out_scales (tuple[int, ...]): Scales to return, from 0 (stride 4) to 3 (stride 32). Defaults to all four.
        **kwargs: All other arguments of :class:`MViT`.

    Raises:
        ValueError: If ``arch`` is unknown.
    """

    def __init__(
        self,
        arch: str | dict = "small",
        spatial_size: int = 1024,
        temporal_size: int = 16,
        out_scales: tuple[int, ...] = (0, 1, 2, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            arch=arch,
            spatial_size=spatial_size,
            temporal_size=temporal_size,
            out_scales=list(out_scales),
            output_cls_token=False,
            **kwargs,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: For each of ``out_scales`` a map (N, C, H', W').

        Raises:
            ValueError: If the size is not divisible by the stride of the last scale.
        """
        check_divisible(tuple(x.shape[-2:]), self.token_stride[1:], type(self).__name__)
        tokens, grid = self._embed_images(x)
        outs = []
        for i, block in enumerate(self.blocks):
            tokens, grid = self._run_block(block, tokens, grid)
            scale = self.stage_indices.get(i)
            if scale in self.out_scales:
                norm = getattr(self, f"norm{scale}")
                featmap: Any = self._format_output(tokens, norm(tokens), grid, norm)  # (N, C, 1, H', W')
                outs.append(featmap.squeeze(2))
        return tuple(outs)

    def _embed_images(self, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        projection = self.patch_embed.projection
        if not may_bypass((self.patch_embed, PatchEmbed3D), (projection, nn.Conv3d)):
            return self._embed_still_clips(x)
        x = F.conv2d(
            x, projection.weight.sum(2), projection.bias, projection.stride[1:], projection.padding[1:]
        )  # (N, C, H', W')
        grid = (1, *x.shape[2:])
        x = x.flatten(2).transpose(1, 2)  # (N, L, C)
        if self.patch_embed.norm is not None:
            x = self.patch_embed.norm(x)
        return self._add_tokens(x, grid), grid

    def _embed_still_clips(self, x: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Embed images with the layer itself: take the first token step whose frames all lie within the clip."""
        conv = self.patch_embed.projection
        size, stride, padding = (axes[0] for axes in (conv.kernel_size, conv.stride, conv.padding))
        step = -(-padding // stride)
        frames = step * stride - padding + size
        x, (steps, *grid) = self.patch_embed(x.unsqueeze(2).expand(-1, -1, frames, -1, -1))  # (N, steps*H'*W', C)
        x = x.unflatten(1, (steps, -1))[:, step]
        return self._add_tokens(x, (1, *grid)), (1, *grid)
