"""ViT that encodes only the visible tokens."""

import torch
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import VisibleUnits, check_mask
from .masked_backbone import VisibleBackbone
from .pretraining_vit import PretrainingViT


@MODELS.register_module()
class VisibleViT(PretrainingViT, VisibleBackbone):
    """``mmpretrain.VisionTransformer`` that drops the masked tokens, as in MAE (He et al., 2022).

    It has the parameters of ``mmpretrain.VisionTransformer``; the mask token is in the decoder. If nothing is masked,
    or without a mask, it is equal to the dense encoder. Every token gets its absolute position before tokens are
    dropped, so only the content of the masked tokens is missing. Use it in :class:`VisibleMaskFeat`.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown or ``img_size`` is not divisible by ``patch_size``.
    """

    def init_weights(self) -> None:
        """Initialize as :class:`PretrainingViT`; the class token from a truncated normal with deviation 0.02."""
        super().init_weights()
        self._init_tokens(self.cls_token)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, num_masked: int | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is masked, the same number in each image.
                Defaults to None.
            num_masked (int, optional): Masked tokens of each image. Defaults to None: they are counted, for which the
                host waits for the device.

        Returns:
            Tensor | tuple[Tensor, ...]: With a mask, the result of :meth:`visible_tokens`. Without a mask, the output
            of the parent.

        Raises:
            ValueError: As :meth:`visible_tokens`.
        """
        return super().forward(x) if mask is None else self.visible_tokens(x, mask, num_masked)

    def visible_tokens(self, x: Tensor, mask: Tensor, num_masked: int | None = None) -> Tensor:
        """Encode the visible tokens of images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor): bool (N, 1, H', W'), True where a token is masked; equally many in each image.
            num_masked (int, optional): Masked tokens of each image, as in :meth:`forward`. Defaults to None.

        Returns:
            Tensor: The K visible tokens (N, K, C), normalised, row by row, without class token.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the images mask different numbers of
                tokens.
        """
        grid = self.token_grid(x.shape[-2:])
        check_mask(mask, len(x), grid)
        visible = VisibleUnits(mask, num_masked).tokens(grid)
        x, resolution = self.patch_embed(x)  # (N, L, C)
        positions = self._positions(resolution)  # (1, [1+] L, C)
        extra = self.num_extra_tokens
        x = visible.gather(x + positions[:, extra:])  # (N, K, C)
        if self.cls_token is not None:
            cls_token = self.cls_token + positions[:, :extra]
            x = torch.cat((cls_token.expand(len(x), -1, -1), x), dim=1)  # (N, 1+K, C)
        return self._run_layers(x)[:, extra:]
