"""ViT with a mask token."""

from typing import Any

import torch
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import check_mask, expand_mask, masked_places, replace_masked
from .masked_backbone import MaskedBackbone
from .pretraining_vit import PretrainingViT


@MODELS.register_module()
class MaskedViT(PretrainingViT, MaskedBackbone):
    """``mmpretrain.VisionTransformer`` whose forward also takes a mask.

    The parameters are the parent's plus ``mask_token``, so that pre-trained weights load into the plain
    ``mmpretrain.VisionTransformer`` by ``init_cfg=dict(type='Pretrained', prefix='backbone.')``. Without a mask it is
    the parent.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: Everything else of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown or ``img_size`` is not divisible by ``patch_size``.
    """

    def __init__(self, arch: str | dict = "base", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as :class:`PretrainingViT`, and the tokens from a truncated normal of 0.02."""
        super().init_weights()
        self._init_tokens(self.mask_token, self.cls_token)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is masked, or flat (N, H'*W'), as
                ``mmpretrain.MaskFeat`` calls its backbone. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: With a mask the normalised tokens (N, H'*W', C) without class token; with a
            flat one (N, 1+H'*W', C), the class token first; without, what the parent returns.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the mask is flat and there is no class
                token.
        """
        if mask is None:
            return super().forward(x)
        _, height, width = self.token_grid(x.shape[-2:])
        if mask.dim() == 2 and mask.shape[1] == height * width and self.cls_token is not None:
            return self.encode_masked(x, mask.bool().view(-1, 1, height, width))
        return self.encode_masked(x, mask)[:, self.num_extra_tokens :]

    def masked_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        """The tokens of :meth:`forward` in the masked places: the last layer computes no others.

        Args: as in :meth:`forward`.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: As :meth:`forward`.
        """
        places = masked_places(mask)
        if places is None:
            return self.encode_masked(x, mask)[:, self.num_extra_tokens :][mask.flatten(1)]
        return self._run_layers(self._embed_masked(x, mask), places).flatten(0, 1)

    def encode_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode images, the class token included.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor): bool (N, 1, H', W'), True where a token is masked.

        Returns:
            Tensor: The normalised tokens (N, [1+] H'*W', C), the class token first, if there is one.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        return self._run_layers(self._embed_masked(x, mask))

    def _embed_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) as tokens (N, [1+] L, C) with their positions, those of a mask by its token."""
        grid = self.token_grid(x.shape[-2:])
        check_mask(mask, len(x), grid)
        x, resolution = self.patch_embed(x)  # (N, L, C)
        x = replace_masked(x, expand_mask(mask, grid), self.mask_token)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)  # (N, 1+L, C)
        return x + self._positions(resolution)
