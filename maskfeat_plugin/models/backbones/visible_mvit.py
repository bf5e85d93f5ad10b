"""MViT that encodes only the visible mask units."""

from math import lcm, prod
from typing import Any

import torch
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor

from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.registry import MODELS

from ..utils import VisibleUnits, become, check_mask, expand_mask, is_pretrained
from .masked_backbone import VisibleBackbone
from .mvit import MViT
from .visible_attention import VisibleMultiScaleAttention, VisibleMultiScaleBlock


@MODELS.register_module()
class VisibleMViT(MViT, VisibleBackbone):
    """:class:`MViT` that drops masked tokens in whole mask units.

    A mask unit is the smallest cube of tokens that no pooling merges with its neighbours, see :attr:`mask_unit`. In
    MViT-S it is 2 x 2 tokens of the last stage, or 32 x 32 pixels. The paper's masks have the same units
    (``window_size=(8, 7, 7)`` for a token grid of (8, 14, 14)). Linear layers, norms, MLPs and attention run on the
    visible tokens only, with the relative positions of their true places. Only the depthwise pooling runs on the whole
    grid, because it reaches at least one token into the neighbours. There masked tokens are padded as the border of
    the clip is: with zeros for the convolutions, with minus infinity for max pooling. (Hiera, Ryali et al., 2023, pools
    each unit by itself. The temporal weights of the convolutions would then not be trained.)

    So the encoder differs from the dense one, :class:`MaskedMViT`, only in the masked tokens: they are absent, instead
    of being mask tokens. If nothing is masked, or without a mask, it is equal to :class:`MViT`. The kernel of the patch
    embedding is larger than its stride and sees a few pixels beyond a token, as in :class:`MaskedMViT`.

    It has the parameters of ``mmaction.MViT``; the mask token is in the decoder. Use it in :class:`VisibleMaskFeat`.

    Args:
        arch (str | dict): Architecture, see :class:`MViT`. Defaults to "maskfeat-small".
        **kwargs: All other arguments of :class:`MViT`.

    Attributes:
        mask_unit (tuple[int, int, int]): The mask unit in tokens of the last stage (T', H', W').
    """

    def __init__(self, arch: str | dict = "maskfeat-small", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        unit = stride = (1, 1, 1)  # in tokens of the patch embedding
        for block in self.blocks:
            become(block, VisibleMultiScaleBlock)
            become(block.attn, VisibleMultiScaleAttention)
            unit = _lcm(unit, _multiply(stride, block.attn.pool_k.stride))
            stride = _multiply(stride, block.attn.pool_q.stride)
        unit = _lcm(unit, stride)
        self._units_checked = False
        self.mask_unit = tuple(u // s for u, s in zip(unit, stride, strict=True))

    def init_weights(self) -> None:
        """Initialize as :class:`MViT`; the class token from a truncated normal with standard deviation 0.02."""
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        trunc_normal_(self.cls_token, std=0.02)

    def forward(  # type: ignore[override] # tokens for a mask
        self, x: Tensor, mask: Tensor | None = None, num_masked: int | None = None
    ) -> Tensor | tuple[list[Tensor] | Tensor, ...]:
        """Encode clips.

        Args:
            x (Tensor): Normalised clips (N, 3, T, H, W).
            mask (Tensor, optional): bool (N, T', H', W') on the grid of the last stage, True where a token is masked:
                whole mask units, equally many in each clip. Defaults to None.
            num_masked (int, optional): Masked tokens of each clip. Defaults to None: they are counted, for which the
                host waits for the device.

        Returns:
            Tensor | tuple: With a mask, the result of :meth:`visible_tokens`. Without a mask, the output of the parent.

        Raises:
            ValueError: As :meth:`visible_tokens`.
        """
        return super().forward(x) if mask is None else self.visible_tokens(x, mask, num_masked)

    def visible_tokens(self, x: Tensor, mask: Tensor, num_masked: int | None = None) -> Tensor:
        """Encode the visible mask units of clips.

        Args:
            x (Tensor): Normalised clips (N, 3, T, H, W).
            mask (Tensor): bool (N, T', H', W') on the grid of the last stage, True where a token is masked: whole mask
                units, equally many in each clip.
            num_masked (int, optional): Masked tokens of each clip, as in :meth:`forward`. Defaults to None.

        Returns:
            Tensor: The K visible tokens (N, K, C) of the last stage, normalised, row by row, without class token.

        Raises:
            ValueError: If the mask's grid or the input size does not fit, a unit is masked only in part, or the clips
                mask different numbers of units.
        """
        out_grid = self.token_grid(x.shape[2:])
        check_mask(mask, len(x), out_grid)
        units = VisibleUnits(*self._units(mask, num_masked))
        x, grid = self.patch_embed(x)  # (N, L, C)
        x = self._add_tokens(x, grid)
        extra = int(self.with_cls_token)
        x = torch.cat((x[:, :extra], units.tokens(grid).gather(x[:, extra:])), dim=1)  # (N, [1+] K, C)
        for block in self.blocks:
            x, grid = self._run_block(block, x, grid, units)
        norm = getattr(self, f"norm{self.num_scales - 1}")
        return norm(x[:, extra:])

    def _units(self, mask: Tensor, num_masked: int | None) -> tuple[Tensor, int | None]:
        """Return the mask of units, and the number of masked units per clip, or None if ``num_masked`` is None."""
        if num_masked is None:
            return units_of(mask, self.mask_unit), None
        compiles = torch.compiler.is_compiling()
        # On other devices than the CPU a check makes the host wait, so that only the first mask is checked there
        waits = mask.device.type != "cpu"
        units = units_of(mask, self.mask_unit, check=not compiles and not (waits and self._units_checked))
        if not compiles:
            self._units_checked = True
        return units, num_masked // prod(self.mask_unit)


def units_of(mask: Tensor, unit: Grid, check: bool = True) -> Tensor:
    """Read a mask of tokens as a mask of units.

    Args:
        mask (Tensor): (N, T', H', W'), True where a token is masked.
        unit (Grid): Size of a unit in tokens.
        check (bool): Whether to check that no unit is masked in part, for which the host waits for the device. Defaults
            to True.

    Returns:
        Tensor: bool (N, T'/t, H'/h, W'/w).

    Raises:
        ValueError: If the units do not divide the grid, or a unit is masked only in part.
    """
    grid = tuple(mask.shape[1:])
    if any(g % u for g, u in zip(grid, unit, strict=True)):
        raise ValueError(
            f"The backbone's mask unit of {unit} tokens (T', H', W') does not divide the token grid {grid}. Change the "
            "crop size of the pipeline, or adaptive_kv_stride, which sets the unit."
        )
    coarse = mask[:, :: unit[0], :: unit[1], :: unit[2]].bool()
    if check and not torch.equal(expand_mask(coarse, grid), mask.bool().flatten(1)):
        window = tuple(g // u for g, u in zip(grid, unit, strict=True))
        raise ValueError(
            f"The mask covers some units of {unit} tokens (T', H', W') only in part, but the backbone's pooling needs "
            f"whole units. Set the mask generator's window_size={window}."
        )
    return coarse


def _multiply(a: Grid, b: Grid) -> Grid:
    return tuple(x * y for x, y in zip(a, b, strict=True))


def _lcm(a: Grid, b: Grid) -> Grid:
    return tuple(lcm(x, y) for x, y in zip(a, b, strict=True))
