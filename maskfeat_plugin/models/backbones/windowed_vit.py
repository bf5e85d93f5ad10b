"""ViT for detection: windowed attention with a few global blocks."""

from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models.backbones.vit_sam import window_partition, window_unpartition
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maskfeat_plugin.registry import MODELS

from ..utils import check_divisible
from .vision_transformer import VisionTransformer


@MODELS.register_module()
class WindowedViT(VisionTransformer):
    """``mmpretrain.VisionTransformer`` for large images: most blocks attend within windows.

    The design is ViTDet (Li et al., 2022) without its relative positions, because MaskFeat's ViT has only absolute
    ones. It has the parent's parameters except the class token, so a pre-trained ViT loads without a change. If the
    windows do not divide the token grid, padding tokens fill the last windows, and no token attends to them.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        img_size (int | tuple): Usual input size in pixels; other sizes are possible. Defaults to 1024.
        window_size (int): Side of a window in tokens. Defaults to 14.
        global_attn_indexes (Sequence[int], optional): Blocks that attend to the whole image, counted from 0. Defaults
            to None: the last block of each quarter.
        with_cp (bool): Whether to recompute each block in the backward pass, which saves memory. Defaults to False.
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer`` except ``out_type`` and ``with_cls_token``.

    Raises:
        ValueError: If ``arch`` is unknown, ``window_size`` is not positive or a global block does not exist.
    """

    def __init__(
        self,
        arch: str | dict = "base",
        img_size: int | tuple[int, int] = 1024,
        window_size: int = 14,
        global_attn_indexes: Sequence[int] | None = None,
        with_cp: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(arch=arch, img_size=img_size, out_type="featmap", with_cls_token=False, **kwargs)
        if window_size < 1:
            raise ValueError(f"window_size={window_size} must be positive.")
        if global_attn_indexes is None:
            global_attn_indexes = sorted({(i + 1) * self.num_layers // 4 - 1 for i in range(4)} - {-1})
        wrong = [i for i in global_attn_indexes if not 0 <= i < self.num_layers]
        if wrong:
            raise ValueError(
                f"global_attn_indexes contains {wrong}, but the blocks are numbered 0 to {self.num_layers - 1}."
            )
        self.patch_size = tuple(self.patch_embed.projection.stride)
        self.window_size = window_size
        self.global_attn_indexes = tuple(global_attn_indexes)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Normalised images (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: For each of ``out_indices`` a map (N, C, H', W'); H' = H / patch_size.

        Raises:
            ValueError: If the size is not divisible by ``patch_size``.
        """
        check_divisible(tuple(x.shape[-2:]), self.patch_size, "WindowedViT")
        x, resolution = self.patch_embed(x)  # (N, L, C)
        x = x + resize_pos_embed(
            self.pos_embed, self.patch_resolution, resolution, mode=self.interpolate_mode, num_extra_tokens=0
        )
        x = self.pre_norm(self.drop_after_pos(x))
        keys = padding_mask(resolution, self.window_size, x.device)
        outs = []
        for i, layer in enumerate(self.layers):
            run = self._attend_globally if i in self.global_attn_indexes else self._attend_in_windows
            if self.with_cp and x.requires_grad:
                x = checkpoint(run, layer, x, resolution, keys, use_reentrant=False)
            else:
                x = run(layer, x, resolution, keys)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format_output(x, resolution))
        return tuple(outs)

    @staticmethod
    def _attend_globally(layer: nn.Module, x: Tensor, resolution: tuple[int, int], keys: Tensor | None) -> Tensor:
        return layer(x)

    def _attend_in_windows(
        self, layer: nn.Module, x: Tensor, resolution: tuple[int, int], keys: Tensor | None
    ) -> Tensor:
        windows = to_windows(x, resolution, self.window_size)  # (N*K, w*w, C)
        if keys is None:
            windows = layer(windows)
        else:
            mask = keys.repeat(x.shape[0], 1)[:, None, None]  # (N*K, 1, 1, w*w)
            windows = layer(windows, None, mask)
        return from_windows(windows, resolution, self.window_size)


def to_windows(x: Tensor, resolution: tuple[int, int], window_size: int) -> Tensor:
    """Cut a token grid into square windows, padded with zeros beyond the border of the grid.

    Args:
        x (Tensor): Tokens (N, H'*W', C).
        resolution (tuple[int, int]): (H', W').
        window_size (int): Side w of a window.

    Returns:
        Tensor: (N*K, w*w, C), with K windows per image, row by row.
    """
    windows, _ = window_partition(x.unflatten(1, resolution), window_size)  # (N*K, w, w, C)
    return windows.flatten(1, 2)


def from_windows(windows: Tensor, resolution: tuple[int, int], window_size: int) -> Tensor:
    """Undo :func:`to_windows`.

    Args:
        windows (Tensor): (N*K, w*w, C).
        resolution (tuple[int, int]): (H', W').
        window_size (int): Side w of a window.

    Returns:
        Tensor: Tokens (N, H'*W', C).
    """
    filled = tuple(side + -side % window_size for side in resolution)
    windows = windows.unflatten(1, (window_size, window_size))  # (N*K, w, w, C)
    return window_unpartition(windows, window_size, filled, resolution).flatten(1, 2)  # of (N, H', W', C)


def padding_mask(resolution: tuple[int, int], window_size: int, device: torch.device) -> Tensor | None:
    """Return a mask of the tokens in windows that are no padding: bool (K, w*w), None if there is no padding."""
    if not any(n % window_size for n in resolution):
        return None
    real = torch.ones(1, resolution[0] * resolution[1], 1, device=device)
    return to_windows(real, resolution, window_size)[..., 0] > 0
