"""MViT with a mask token."""

import torch
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from .mvit import MViT


@MODELS.register_module()
class MaskedMViT(MViT):
    """:class:`MViT` whose forward also takes a mask.

    The parameters are those of ``mmaction.MViT`` plus ``mask_token``. Without a mask it is its parent.

    Args:
        arch (str | dict): Architecture, see :class:`MViT`. Defaults to "maskfeat-small".
        **kwargs: Everything else of :class:`MViT`.
    """

    def __init__(self, arch: str | dict = "maskfeat-small", **kwargs) -> None:
        super().__init__(arch=arch, **kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as ``mmaction.MViT``, and the tokens from a truncated normal of 0.02."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg["type"].endswith("Pretrained"):
            return
        trunc_normal_(self.mask_token, std=0.02)
        trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[list[Tensor] | Tensor, ...]:
        """Encode clips.

        Args:
            x (Tensor): Normalised clips (N, 3, T, H, W).
            mask (Tensor, optional): bool (N, T', H', W') on the grid of the last stage, True where a token is hidden.
                Defaults to None.

        Returns:
            Tensor | tuple: With a mask the normalised tokens (N, T'*H'*W', C) of the last stage without class token;
            without, what the parent returns.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        if mask is None:
            return super().forward(x)
        out_grid = self.token_grid(x.shape[2:])
        if tuple(mask.shape) != (len(x), *out_grid):
            raise ValueError(
                f"The mask is {tuple(mask.shape)}, the backbone's tokens are {(len(x), *out_grid)} "
                f"(N, T', H', W'); set the mask generator's token_grid={out_grid}."
            )
        x, grid = self._embed(x, mask, self.mask_token)
        for block in self.blocks:
            x, grid = block(x, grid)
        norm = getattr(self, f"norm{self.num_scales - 1}")
        return norm(x[:, int(self.with_cls_token) :])
