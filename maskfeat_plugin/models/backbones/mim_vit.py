"""The masked ViT for mmpretrain's own algorithms."""

from typing import Any

from torch import Tensor

from maskfeat_plugin.registry import MODELS

from .masked_vit import MaskedViT


@MODELS.register_module()
class MIMViT(MaskedViT):
    """:class:`MaskedViT` with the call that mmpretrain's masked image modeling algorithms expect.

    ``mmpretrain.SimMIM`` expects a feature map (``out_type='featmap'``). ``mmpretrain.BEiT`` expects all tokens, the
    class token first (``out_type='raw'``). ``mmpretrain.MaskFeat`` passes a flat mask and expects the same tokens, but
    not in a tuple. Parameters and results are equal to :class:`MaskedViT`.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        out_type (str): Type of the output, as in the parent. It also holds for calls with a mask. Defaults to "raw".
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``out_type='raw'`` and there is no class token: ``BEiT`` would then drop a patch token instead.
    """

    def __init__(self, arch: str | dict = "base", out_type: str = "raw", **kwargs: Any) -> None:
        super().__init__(arch=arch, out_type=out_type, **kwargs)
        if out_type == "raw" and self.cls_token is None:
            raise ValueError("out_type='raw' needs the class token; leave out with_cls_token=False.")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).
            mask (Tensor, optional): (N, H', W') or (N, 1, H', W') of any dtype, non-zero where a token is masked; or a
                flat mask (N, H'*W'), see :meth:`MaskedViT.forward`. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: The output of the last layer in the form of ``out_type``. Without a mask, the
            output of every layer in ``out_indices``.

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
