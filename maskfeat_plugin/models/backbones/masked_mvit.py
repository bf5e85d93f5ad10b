"""MViT with a mask token."""

from typing import Any

import torch
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, check_mask, is_pretrained, masked_places
from .masked_backbone import MaskedBackbone, select_masked
from .mvit import MViT


@MODELS.register_module()
class MaskedMViT(MViT, MaskedBackbone):
    """:class:`MViT` whose forward also takes a mask.

    It has the parameters of ``mmaction.MViT`` and ``mask_token``. Without a mask it works as its parent does.

    Args:
        arch (str | dict): Architecture, see :class:`MViT`. Defaults to "maskfeat-small".
        **kwargs: All other arguments of :class:`MViT`.
    """

    def __init__(self, arch: str | dict = "maskfeat-small", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as :class:`MViT`; mask and class token from a truncated normal with standard deviation 0.02."""
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        trunc_normal_(self.mask_token, std=0.02)
        trunc_normal_(self.cls_token, std=0.02)

    def forward(  # type: ignore[override] # tokens for a mask
        self, x: Tensor, mask: Tensor | None = None
    ) -> Tensor | tuple[list[Tensor] | Tensor, ...]:
        """Encode clips.

        Args:
            x (Tensor): Normalised clips (N, 3, T, H, W).
            mask (Tensor, optional): bool (N, T', H', W') on the grid of the last stage, True where a token is masked.
                Defaults to None.

        Returns:
            Tensor | tuple: With a mask, the normalised tokens (N, T'*H'*W', C) of the last stage without class token.
            Without a mask, the output of the parent.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        if mask is None:
            return super().forward(x)
        x = self._encode(x, mask)
        return self._last_norm(x[:, int(self.with_cls_token) :])

    def masked_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Compute the tokens of :meth:`forward` at the masked places. The last block computes no other tokens.

        Args: as in :meth:`forward`, and the masked tokens, if all clips mask equally many.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: As :meth:`forward`.
        """
        places = masked_places(mask) if places is None else places
        if places is None:
            return select_masked(self, x, mask)
        return self._last_norm(self._encode(x, mask, places)).flatten(0, 1)

    def _encode(self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Compute the tokens (N, [1+] L, C) after the last block, or only the tokens (N, K, C) of the given places."""
        check_mask(mask, len(x), self.token_grid(x.shape[2:]))
        x, grid = self._embed(x, mask, self.mask_token)
        for block in self.blocks[:-1]:
            x, grid = self._run_block(block, x, grid)
        return self._run_block(self.blocks[-1], x, grid, *(() if places is None else (places,)))[0]

    @property
    def _last_norm(self) -> nn.Module:
        return getattr(self, f"norm{self.num_scales - 1}")
