"""The masked ViT in mmpretrain's own algorithms."""

from typing import Any

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from .masked_vit import MaskedViT


@MODELS.register_module()
class MIMViT(MaskedViT):
    """:class:`MaskedViT` as mmpretrain's masked image modeling algorithms call their backbones.

    ``mmpretrain.SimMIM`` wants a feature map (``out_type='featmap'``), ``mmpretrain.BEiT`` all tokens, the class token
    first (``out_type='raw'``), ``mmpretrain.MaskFeat`` the same outside a tuple, for a flat mask. Parameters and
    numbers are those of :class:`MaskedViT`.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        out_type (str): What the parent gives without a mask, this one with a mask too. Defaults to "raw".
        **kwargs: Everything else of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``out_type='raw'`` without a class token, in whose place ``BEiT`` would lose a patch token.
    """

    def __init__(self, arch: str | dict = "base", out_type: str = "raw", **kwargs: Any) -> None:
        super().__init__(arch=arch, out_type=out_type, **kwargs)
        if out_type == "raw" and self.cls_token is None:
            raise ValueError("out_type='raw' needs the class token; leave out with_cls_token=False.")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): (N, H', W') or (N, 1, H', W'), non-zero where a token is masked, of any dtype; flat
                (N, H'*W'), see :meth:`MaskedViT.forward`. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: The last layer's output, as ``out_type`` says; without a mask of every layer of
                ``out_indices``.

        Raises:
            ValueError: If the mask's grid or the input size does not fit.
        """
        if mask is None or mask.dim() == 2:
            return super().forward(x, mask)
        grid = self.token_grid(x.shape[-2:])
        if mask.dim() == 3:
            mask = mask.unsqueeze(1)
        tokens = self.encode_masked(x, mask.bool())
        return (self._format_output(tokens, grid[1:]),)
