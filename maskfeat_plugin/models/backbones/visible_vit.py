"""ViT that encodes the visible tokens only."""

from typing import Any

import torch
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import VisibleUnits, check_mask
from .masked_vit import MaskedViT


@MODELS.register_module()
class VisibleViT(MaskedViT):
    """``mmpretrain.VisionTransformer`` that drops the masked tokens, as in MAE (He et al., 2022).

    The parameters are those of ``mmpretrain.VisionTransformer``: there is no mask token, the decoder has one. Where
    nothing is hidden, or without a mask, it is the dense encoder. As every token knows its absolute position before
    any is dropped, only the content of the hidden tokens is missing. For :class:`VisibleMaskFeat`.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: Everything else of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown or ``img_size`` is not divisible by ``patch_size``.
    """

    def __init__(self, arch: str | dict = "base", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        self.mask_token = None  # type: ignore[assignment] # the parent has one

    def hidden_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        """Refuse to give tokens that this encoder never has.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "VisibleViT encodes the visible tokens alone. Use it in maskfeat.VisibleMaskFeat, or "
            "maskfeat.MaskedViT in its place."
        )

    def encode_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode the visible tokens of images, the class token included.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor): bool (N, 1, H', W'), True where a token is hidden; equally many in each image.

        Returns:
            Tensor: The normalised tokens (N, [1+] K, C), the class token first, if there is one, then the K visible
            ones row by row.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the images hide different numbers.
        """
        grid = self.token_grid(x.shape[-2:])
        check_mask(mask, len(x), grid)
        visible = VisibleUnits(mask).tokens(grid)
        x, resolution = self.patch_embed(x)  # (N, L, C)
        positions = resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            resolution,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )
        extra = self.num_extra_tokens
        x = visible.gather(x + positions[:, extra:])  # (N, K, C)
        if self.cls_token is not None:
            cls_token = self.cls_token + positions[:, :extra]
            x = torch.cat((cls_token.expand(len(x), -1, -1), x), dim=1)  # (N, 1+K, C)
        return self._run_layers(x)
