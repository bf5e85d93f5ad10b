"""ViT with a mask token."""

from typing import Any

import torch
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, check_mask, expand_mask, masked_places, replace_masked
from .masked_backbone import MaskedBackbone
from .pretraining_vit import PretrainingViT


@MODELS.register_module()
class MaskedViT(PretrainingViT, MaskedBackbone):
    """``mmpretrain.VisionTransformer`` whose forward also takes a mask.

    It has the parent's parameters and ``mask_token``. So pre-trained weights load into the plain
    ``mmpretrain.VisionTransformer`` with ``init_cfg=dict(type='Pretrained', prefix='backbone.')``. Without a mask it
    works as its parent does.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown or ``img_size`` is not divisible by ``patch_size``.
    """

    def __init__(self, arch: str | dict = "base", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as :class:`PretrainingViT`; both tokens from a truncated normal with standard deviation 0.02."""
        super().init_weights()
        self._init_tokens(self.mask_token, self.cls_token)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is masked. It may be flat (N, H'*W'),
                because ``mmpretrain.MaskFeat`` calls its backbone with such a mask. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: With a mask, the normalised tokens (N, H'*W', C) without class token. With a
            flat mask, (N, 1+H'*W', C) with the class token first. Without a mask, the output of the parent.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the mask is flat and the model has no
                class token.
        """
        if mask is None:
            return super().forward(x)
        _, height, width = self.token_grid(x.shape[-2:])
        if mask.dim() == 2 and mask.shape[1] == height * width and self.cls_token is not None:
            return self.encode_masked(x, mask.bool().view(-1, 1, height, width))
        return self.encode_masked(x, mask)[:, self.num_extra_tokens :]

    def masked_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Compute the tokens of :meth:`forward` at the masked places. The last layer computes no other tokens.

        Args: as in :meth:`forward`, and the masked tokens, if all images mask equally many.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: As :meth:`forward`.
        """
        places = masked_places(mask) if places is None else places
        if places is None:
            return self.encode_masked(x, mask)[:, self.num_extra_tokens :][mask.flatten(1)]
        return self._run_layers(self._embed_masked(x, mask), places).flatten(0, 1)

    def encode_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode images, and return all tokens with the class token.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor): bool (N, 1, H', W'), True where a token is masked.

        Returns:
            Tensor: The normalised tokens (N, [1+] H'*W', C), the class token first if there is one.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        return self._run_layers(self._embed_masked(x, mask))

    def _embed_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Embed images (N, 3, H, W) as tokens (N, [1+] L, C) with positions; masked tokens become the mask token."""
        grid = self.token_grid(x.shape[-2:])
        check_mask(mask, len(x), grid)
        x, resolution = self.patch_embed(x)  # (N, L, C)
        x = replace_masked(x, expand_mask(mask, grid), self.mask_token)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)  # (N, 1+L, C)
        return x + self._positions(resolution)
