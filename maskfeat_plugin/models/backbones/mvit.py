"""A faster version of mmaction2's MViT, with the options that MaskFeat's fine-tuning needs."""

from typing import Any

import torch
from mmaction.models.backbones.mvit import MViT as _MViT
from mmaction.models.backbones.mvit import resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.registry import MODELS

from ..utils import (
    become,
    check_arch,
    check_divisible,
    expand_mask,
    is_pretrained,
    replace_masked,
    set_authors_biases,
    use_plain_drop_rates,
)
from .attention import FusedMultiScaleAttention
from .multiscale_block import FusedMultiScaleBlock

OUT_TYPES = ("featmap", "avg_featmap")


@MODELS.register_module()
class MViT(_MViT):
    """``mmaction.MViT`` with fused attention, and optional mean pooling before the final norm.

    It can replace ``mmaction.MViT`` everywhere: parameter names and results are the same. MaskFeat's architectures
    double the channels in the MLP, so ``dim_mul_in_attention`` is False by default, as in the authors' release.

    Args:
        arch (str | dict): Architecture of ``mmaction.MViT``, or "maskfeat-small" or "maskfeat-large". These two are
            the pre-training variants, whose last stage keeps its resolution. Defaults to "small".
        out_type (str): Vector that the last output holds: "featmap" gives the class token, as mmaction2 does;
            "avg_featmap" gives the normalised mean over all patch tokens, as the authors do for fine-tuning. Defaults
            to "featmap".
        dim_mul_in_attention (bool): Whether the attention instead of the MLP increases the channels. Defaults to
            False.
        with_cp (bool): Whether to recompute each block in the backward pass, which saves memory. Defaults to False.
        **kwargs: All other arguments of ``mmaction.MViT``.

    Raises:
        ValueError: If ``arch`` or ``out_type`` is unknown, or the strides do not divide the input size.
    """

    arch_zoo = {
        **_MViT.arch_zoo,
        "maskfeat-small": dict(
            embed_dims=96,
            num_layers=16,
            num_heads=1,
            downscale_indices=[1, 3],
            dim_mul_indices=[1, 3, 14],
        ),
        "maskfeat-large": dict(
            embed_dims=144,
            num_layers=48,
            num_heads=2,
            downscale_indices=[2, 8],
            dim_mul_indices=[2, 8, 44],
        ),
    }

    def __init__(
        self,
        arch: str | dict = "small",
        out_type: str = "featmap",
        dim_mul_in_attention: bool = False,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        check_arch(arch, self.arch_zoo)
        if out_type not in OUT_TYPES:
            raise ValueError(f"out_type={out_type!r} is unknown; choose one of {OUT_TYPES}.")
        super().__init__(arch=arch, dim_mul_in_attention=dim_mul_in_attention, **kwargs)
        self.out_type = out_type
        self.with_cp = with_cp
        spatial = 2 ** len(self.downscale_indices)
        self.token_stride = tuple(
            s * d for s, d in zip(self.patch_embed.projection.stride, (1, spatial, spatial), strict=True)
        )
        for block in self.blocks:
            become(block, FusedMultiScaleBlock)
            become(block.attn, FusedMultiScaleAttention)
        use_plain_drop_rates(self)

    def init_weights(self) -> None:
        """Initialize as ``mmaction.MViT``, except for two biases.

        As in the authors' code, the bias of the patch embedding has torch's default; the bias of the last norm is 0.
        """
        super().init_weights()
        if not is_pretrained(self.init_cfg):
            set_authors_biases(self.patch_embed.projection, getattr(self, f"norm{max(self.out_scales)}"))

    def token_grid(self, input_size: tuple[int, ...]) -> Grid:
        """Return the token grid of the last stage for an input.

        Args:
            input_size (tuple[int, ...]): (T, H, W) in frames and pixels.

        Returns:
            Grid: (T', H', W').

        Raises:
            ValueError: If the size is not divisible by the stride of the tokens.
        """
        return check_divisible(input_size, self.token_stride, type(self).__name__)

    def forward(self, x: Tensor) -> tuple[list[Tensor] | Tensor, ...]:
        """Encode clips.

        Args:
            x (Tensor): Normalised clips (N, 3, T, H, W).

        Returns:
            tuple[list[Tensor] | Tensor, ...]: As ``mmaction.MViT`` returns it: for each of ``out_scales`` the feature
            map (N, C, T', H', W') or, with ``output_cls_token``, a list of the map and a vector (N, C), see
            ``out_type``.
        """
        x, grid = self._embed(x)
        outs = []
        for i, block in enumerate(self.blocks):
            x, grid = self._run_block(block, x, grid)
            scale = self.stage_indices.get(i)
            if scale in self.out_scales:
                norm = getattr(self, f"norm{scale}")
                normed = norm(x)
                outs.append(self._format_output(x, normed, grid, norm))
                x = normed  # as in upstream, the next stage takes the normalised tokens
        return tuple(outs)

    def _run_block(self, block: nn.Module, *args: Any) -> tuple[Tensor, Grid]:
        if self.with_cp and args[0].requires_grad:
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def _embed(self, x: Tensor, mask: Tensor | None = None, mask_token: Tensor | None = None) -> tuple[Tensor, Grid]:
        """Embed clips (N, 3, T, H, W) as tokens (N, [1+] L, C); a mask (N, T', H', W') selects mask tokens."""
        x, grid = self.patch_embed(x)  # (N, L, C)
        if mask is not None:
            assert mask_token is not None
            x = replace_masked(x, expand_mask(mask, grid), mask_token)
        return self._add_tokens(x, grid), grid

    def _add_tokens(self, x: Tensor, grid: Grid) -> Tensor:
        """Put the class token before patch tokens (N, L, C) and add absolute positions, if the model has them."""
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        if self.use_abs_pos_embed:
            x = x + resize_pos_embed(
                self.pos_embed,
                self.patch_resolution,
                grid,
                mode=self.interpolate_mode,
                num_extra_tokens=self.num_extra_tokens,
            )
        return x if self.with_cls_token else x[:, 1:]

    def _format_output(self, x: Tensor, normed: Tensor, grid: Grid, norm: nn.Module) -> list[Tensor] | Tensor:
        extra = int(self.with_cls_token)
        featmap = normed[:, extra:].transpose(1, 2).unflatten(2, tuple(grid))  # (N, C, T', H', W')
        if self.out_type == "avg_featmap":
            return [featmap, norm(x[:, extra:].mean(1))]
        if self.output_cls_token:
            return [featmap, normed[:, 0]]
        return featmap
