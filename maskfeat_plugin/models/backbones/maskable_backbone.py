"""Wrapper that lets this package's MaskFeat use the masked backbones of other packages."""

from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, check_divisible, check_mask, expand_mask
from .masked_backbone import MaskedBackbone, select_masked, takes_mask


@MODELS.register_module()
class MaskableBackbone(BaseModule, MaskedBackbone):
    """Wrapper around any registered image backbone with ``forward(x, mask)``, for :class:`MaskFeat`.

    Examples are mmpretrain's ``SimMIMSwinTransformer``, ``BEiTPretrainViT`` and ``MaskFeatViT``. Masks and targets are
    on the grid of the backbone's last output. The mask is repeated to the finer grid on which the backbone takes it::

        backbone=dict(
            type='maskfeat.MaskableBackbone',
            backbone=dict(type='mmpretrain.SimMIMSwinTransformer', arch='T', img_size=192),
            mask_stride=4,
            token_stride=32)

    Checkpoints hold the weights under ``backbone.backbone.``. To load them into the plain model, use
    ``init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='backbone.backbone.')``.

    Args:
        backbone (dict): Config of the backbone.
        mask_stride (int): Side in pixels of one element of the backbone's mask (its patch size).
        token_stride (int, optional): Pixels between the tokens of the last output. Defaults to None: ``mask_stride``.
        init_cfg (dict, optional): Initialization config. Defaults to None.

    Raises:
        ValueError: If ``token_stride`` is not a multiple of ``mask_stride``, or the backbone takes no mask.
    """

    def __init__(
        self, backbone: dict, mask_stride: int, token_stride: int | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        token_stride = mask_stride if token_stride is None else token_stride
        if token_stride < mask_stride or token_stride % mask_stride:
            raise ValueError(f"token_stride={token_stride} must be a multiple of mask_stride={mask_stride}.")
        self.backbone = MODELS.build(backbone)
        if not takes_mask(self.backbone):
            raise ValueError(
                f"backbone.backbone: the forward of {type(self.backbone).__name__} takes no mask. Use a masked "
                "backbone such as mmpretrain.SimMIMSwinTransformer, or maskfeat.MaskedViT or maskfeat.MaskedMViT in "
                "place of maskfeat.MaskableBackbone."
            )
        self.mask_stride = mask_stride
        self.token_stride = token_stride

    def token_grid(self, input_size: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the token grid of an input.

        Args:
            input_size (tuple[int, ...]): (H, W) in pixels.

        Returns:
            tuple[int, int, int]: (1, H', W').

        Raises:
            ValueError: If the size is not divisible by ``token_stride``.
        """
        rows, cols = check_divisible(input_size[-2:], (self.token_stride,) * 2, "MaskableBackbone")
        return 1, rows, cols

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, C, H, W).
            mask (Tensor, optional): bool (N, 1, H', W'), True where a token is masked. Defaults to None.

        Returns:
            Tensor | tuple[Tensor, ...]: With a mask, the tokens (N, H'*W', C) of the last output without class token.
            Without a mask, the unchanged output of the backbone.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, or the backbone returns another grid.
        """
        if mask is None:
            return self.backbone(x, mask=None)
        grid = self.token_grid(x.shape[-2:])
        check_mask(mask, len(x), grid)
        fine = tuple(s // self.mask_stride for s in x.shape[-2:])
        return self._tokens(self.backbone(x, expand_mask(mask, (1, *fine))), grid[1:])

    def masked_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Encode images, and return the tokens of :meth:`forward` in the masked places.

        Args: as in :meth:`forward`, and the masked tokens, if all images mask equally many.

        Returns:
            Tensor: (M, C), sample by sample, row by row.

        Raises:
            ValueError: As :meth:`forward`.
        """
        return select_masked(self, x, mask, places)

    def _tokens(self, output: Tensor | tuple[Tensor, ...], grid: tuple[int, int]) -> Tensor:
        """Return tokens (N, H'*W', C) of the last output: a map (N, C, H', W') or tokens (N, [1+] H'*W', C)."""
        last = output if isinstance(output, Tensor) else output[-1]
        if last.dim() == 4 and tuple(last.shape[2:]) == grid:
            return last.flatten(2).mT
        if last.dim() == 3 and last.shape[1] in (grid[0] * grid[1], grid[0] * grid[1] + 1):
            return last[:, -grid[0] * grid[1] :]
        raise ValueError(
            f"backbone ({type(self.backbone).__name__}) gives {tuple(last.shape)} for the token grid {grid}; "
            f"set token_stride (now {self.token_stride}) to the stride of its last output."
        )
