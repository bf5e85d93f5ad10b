"""ViT with a mask token."""

import torch
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import check_arch, check_divisible, expand_mask, replace_masked


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

    def __init__(self, arch: str | dict = "base", **kwargs) -> None:
        check_arch(arch, self.arch_zoo)
        super().__init__(arch=arch, **kwargs)
        self.patch_size = tuple(self.patch_embed.projection.stride)
        self.token_grid(self.img_size)  # early check of img_size
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as the authors' release: truncated normal of 0.02 for linear layers and tokens, zero biases."""
        super().init_weights()
        if self.init_cfg and self._pretrained():
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        trunc_normal_(self.mask_token, std=0.02)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)

    def _pretrained(self) -> bool:
        return isinstance(self.init_cfg, dict) and self.init_cfg["type"].endswith("Pretrained")

    def token_grid(self, input_size: tuple[int, ...]) -> tuple[int, int, int]:
        """Token grid of an input.

        Args:
            input_size (tuple[int, ...]): (H, W) in pixels.

        Returns:
            tuple[int, int, int]: (1, H', W').

        Raises:
            ValueError: If the size is not divisible by ``patch_size``.
        """
        return (1, *check_divisible(input_size[-2:], self.patch_size, "MaskedViT"))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is hidden. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: With a mask the normalised tokens (N, H'*W', C) without class token; without,
            what the parent returns.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        if mask is None:
            return super().forward(x)
        grid = self.token_grid(x.shape[-2:])
        if tuple(mask.shape) != (len(x), *grid):
            raise ValueError(
                f"The mask is {tuple(mask.shape)}, the backbone's tokens are {(len(x), *grid)} (N, T', H', W'); "
                f"set the mask generator's token_grid={grid[1:]}."
            )
        x, resolution = self.patch_embed(x)  # (N, L, C)
        x = replace_masked(x, expand_mask(mask, grid), self.mask_token)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)  # (N, 1+L, C)
        x = x + resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            resolution,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )
        x = self.pre_norm(self.drop_after_pos(x))
        for layer in self.layers:
            x = layer(x)
        if self.final_norm:
            x = self.ln1(x)
        return x[:, self.num_extra_tokens :]
