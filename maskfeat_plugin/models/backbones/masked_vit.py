"""ViT with a mask token."""

from typing import Any

import torch
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import (
    TokenPlaces,
    check_divisible,
    check_mask,
    expand_mask,
    hidden_places,
    is_pretrained,
    replace_masked,
    set_authors_biases,
)
from .vision_transformer import VisionTransformer


@MODELS.register_module()
class MaskedViT(VisionTransformer):
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
        self.patch_size = tuple(self.patch_embed.projection.stride)
        self.token_grid(self.img_size)  # early check of img_size
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as the authors' code does.

        Weights and tokens get a truncated normal of 0.02, biases of linear layers and layer norms 0.02; the bias of the
        patch embedding is torch's default, that of the last norm 0.
        """
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
                nn.init.constant_(module.bias, 0.02)
        set_authors_biases(self.patch_embed.projection, self.ln1)
        if self.mask_token is not None:
            trunc_normal_(self.mask_token, std=0.02)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def token_grid(self, input_size: tuple[int, ...]) -> tuple[int, int, int]:
        """Token grid of an input.

        Args:
            input_size (tuple[int, ...]): (H, W) in pixels.

        Returns:
            tuple[int, int, int]: (1, H', W').

        Raises:
            ValueError: If the size is not divisible by ``patch_size``.
        """
        rows, cols = check_divisible(input_size[-2:], self.patch_size, "MaskedViT")
        return 1, rows, cols

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is hidden, or flat (N, H'*W'), as
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
        if mask.dim() == 2 and mask.shape[1] == height * width and None not in (self.cls_token, self.mask_token):
            return self.encode_masked(x, mask.bool().view(-1, 1, height, width))
        return self.encode_masked(x, mask)[:, self.num_extra_tokens :]

    def hidden_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        """The tokens of :meth:`forward` in the masked places: the last layer computes no others.

        Args: as in :meth:`forward`.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: As :meth:`forward`.
        """
        places = hidden_places(mask)
        if places is None:
            return self.encode_masked(x, mask)[:, self.num_extra_tokens :][mask.flatten(1)]
        return self._run_layers(self._embed_masked(x, mask), places).flatten(0, 1)

    def encode_masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Encode images, the class token included.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor): bool (N, 1, H', W'), True where a token is hidden.

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
        return x + resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            resolution,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )

    def _run_layers(self, x: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Embedded tokens (N, [1+] L, C) through the layers and the final norm: all, or those (N, K, C) of places."""
        x = self.pre_norm(self.drop_after_pos(x))
        for layer in self.layers[:-1]:
            x = layer(x)
        x = self.layers[-1](x) if places is None else self.layers[-1](x, places)
        if self.final_norm:
            x = self.ln1(x)
        return x
