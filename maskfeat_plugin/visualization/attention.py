"""Attention roll-out of vision transformers: how much each token of the grid contributes to the result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.models.utils.attention import MultiheadAttention
from numpy.typing import ArrayLike
from torch import Tensor, nn

from maskfeat_plugin.models.backbones.attention import FusedMultiScaleAttention
from maskfeat_plugin.ops.grids import Grid

from .frames import enlarge, frames_of_steps, to_rgb
from .hog_image import to_numpy


@dataclass(frozen=True)
class _Layer:
    """One attention layer in the roll-out. It maps weights of its output tokens to weights of its input tokens.

    Args:
        weights (Tensor): Attention weights, the mean over the heads (N, [1+] L', [1+] L''), from output tokens to
            pooled keys. Each row has the sum 1.
        extra (int): Number of class tokens, which come first and are not pooled.
        grid (Grid): Grid of the input tokens.
        query_grid (Grid): Grid of the output tokens.
        pool_keys (Callable, optional): Function that pools a map (N, 1, *grid) in the same way as the keys. None if the
            keys are not pooled.
        pool_skip (Callable, optional): Function that pools a map in the same way as the skip connection. None if the
            skip connection is not pooled.
    """

    weights: Tensor
    extra: int
    grid: Grid
    query_grid: Grid
    pool_keys: Callable[[Tensor], Tensor] | None = None
    pool_skip: Callable[[Tensor], Tensor] | None = None

    def back(self, rows: Tensor) -> Tensor:
        """Compute weights of the input tokens from weights of the output tokens: half attention, half skip connection.

        Args:
            rows (Tensor): Weights of the output tokens (N, [1+] L').

        Returns:
            Tensor: Weights of the input tokens (N, [1+] L).
        """
        attended = torch.einsum("nq,nqk->nk", rows, self.weights)
        return (self._unpool(attended, self.pool_keys) + self._unpool(rows, self.pool_skip)) / 2

    def _unpool(self, rows: Tensor, pool: Callable[[Tensor], Tensor] | None) -> Tensor:
        if pool is None:
            return rows
        whole = rows.new_zeros(len(rows), 1, *self.grid)
        pooled, transpose, *_ = torch.func.vjp(pool, whole)
        spread = transpose(rows[:, self.extra :].view(pooled.shape))[0].flatten(1)
        return torch.cat([rows[:, : self.extra], spread], dim=1)


@torch.no_grad()
def attention_rollout(
    backbone: nn.Module, inputs: Tensor, mask: Tensor | None = None, query: Tensor | None = None
) -> Tensor:
    """Compute the attention of query tokens to all tokens, through all layers (Abnar and Zuidema, ACL 2020).

    The weights W of a layer are the mean over its heads. They are mixed with the identity for the skip connection:
    A = (W + I) / 2. The roll-out is the product of all A. MViT pools keys and skip connections: the weight of a pooled
    token is divided equally among the tokens in the window of its pooling. The attention is computed from the queries
    and keys of each layer, in addition to the normal, fused forward pass.

    Args:
        backbone (nn.Module): ``mmpretrain.VisionTransformer``, ``maskfeat.MaskedViT``, ``maskfeat.MViT`` or
            ``maskfeat.MaskedMViT``.
        inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
        mask (Tensor, optional): bool (N, T', H', W'), for a backbone that masks tokens. Defaults to None.
        query (Tensor, optional): bool (N, T', H', W'), the query tokens; the result is the mean over them. Defaults to
            None: the class token, or the mean over all tokens if there is no class token.

    Returns:
        Tensor: float32 (N, T', H', W') on the token grid of the last layer, T' = 1 for images: the weight of each token
        for the query. The weights sum to 1 minus the weight of the class token.

    Raises:
        ValueError: If the backbone has no attention of these kinds, or ``query`` is not on the token grid or is empty.
    """
    layers: list[_Layer] = []
    was_training = backbone.training
    backbone.eval()
    try:
        with _recording(backbone, layers):
            backbone(inputs) if mask is None else backbone(inputs, mask)
    finally:
        backbone.train(was_training)
    if not layers:
        raise ValueError(
            f"{type(backbone).__name__} has no attention that can be followed. Use mmpretrain.VisionTransformer, "
            "maskfeat.MaskedViT, maskfeat.MViT or maskfeat.MaskedMViT."
        )
    last = layers[-1]
    rows = _first_rows(last, query, len(inputs))
    for layer in reversed(layers):
        rows = layer.back(rows)
    heat = rows[:, layers[0].extra :].unflatten(1, layers[0].grid)
    # sum patches to tokens of the last layer, which are larger if the skip connections pool
    for axis, (fine, coarse) in enumerate(zip(layers[0].grid, last.query_grid, strict=True), start=1):
        if fine != coarse:
            heat = heat.unflatten(axis, (coarse, fine // coarse)).sum(axis + 1)
    return heat if heat.dim() == 4 else heat.unsqueeze(1)


def draw_heat(frames: ArrayLike, heat: ArrayLike | Tensor, scale: int = 1) -> np.ndarray:
    """Draw a heat map over frames: bright colours where the heat is large, dark colours where it is 0.

    Args:
        frames (ArrayLike): Frames (T, H, W, C), see :func:`.to_rgb`. The first frame of each time step of the grid is
            shown.
        heat (ArrayLike | Tensor): Heat map (T', H', W'), not negative.
        scale (int): Number of times that a pixel is repeated in each direction. Defaults to 1.

    Returns:
        np.ndarray: RGB, uint8 (T', H * scale, W * scale, 3).

    Raises:
        ValueError: If the grid does not divide the frames.
    """
    from matplotlib import colormaps

    heat = to_numpy(heat).astype(np.float32)
    frames = to_rgb(frames_of_steps(frames, heat.shape))
    side = [scale * frames.shape[axis] // heat.shape[axis] for axis in (1, 2)]
    heat = heat / max(float(heat.max()), 1e-12)
    colors = enlarge(colormaps["inferno"](heat)[..., :3], *side)
    grey = enlarge(frames, scale).mean(-1, keepdims=True) / 255
    return ((0.4 * grey + 0.6 * colors).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _first_rows(last: _Layer, query: Tensor | None, batch: int) -> Tensor:
    """Return the initial weights (N, [1+] L) of the tokens after the last layer."""
    weights = last.weights
    rows = weights.new_zeros(batch, weights.shape[1])
    if query is None and last.extra:
        rows[:, 0] = 1
        return rows
    grid = last.query_grid if len(last.query_grid) == 3 else (1, *last.query_grid)
    if query is None:
        query = torch.ones(batch, *grid, dtype=torch.bool, device=rows.device)
    if tuple(query.shape) != (batch, *grid) or not query.flatten(1).any(1).all():
        raise ValueError(
            f"query must be (N, T', H', W') = {(batch, *grid)} with a token of each sample set, got "
            f"{tuple(query.shape)}."
        )
    wanted = query.flatten(1).to(rows)
    rows[:, last.extra :] = wanted / wanted.sum(1, keepdim=True)
    return rows


@contextmanager
def _recording(backbone: nn.Module, layers: list[_Layer]) -> Iterator[None]:
    """Add a layer to the list whenever an attention of the backbone has run."""
    handles, grids = [], []
    patch_embed = getattr(backbone, "patch_embed", None)
    if patch_embed is not None:
        handles.append(patch_embed.register_forward_hook(lambda m, args, out: grids.append(tuple(out[1]))))
    # the block knows how the skip connection is pooled
    skips: dict[Any, Any] = {block.attn: block.pool_skip for block in backbone.modules() if hasattr(block, "pool_skip")}

    def keep_plain(attn: MultiheadAttention, args: tuple, output: Tensor) -> None:
        layers.append(_plain_layer(attn, args[0], grids[-1]))

    def keep_pooling(attn: FusedMultiScaleAttention, args: tuple, output: tuple) -> None:
        layers.append(_pooling_layer(attn, args[0], args[1], skips.get(attn)))

    try:
        for module in backbone.modules():
            if isinstance(module, FusedMultiScaleAttention):
                handles.append(module.register_forward_hook(keep_pooling))
            elif isinstance(module, MultiheadAttention):
                handles.append(module.register_forward_hook(keep_plain))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plain_layer(attn: MultiheadAttention, x: Tensor, grid: Grid) -> _Layer:
    """Build the layer of a ViT's attention on tokens (N, [1+] L, C)."""
    q, k, _ = attn.qkv(x).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (N, num_heads, L, C) each
    # with qk_scale, mmpretrain uses a partial function that divides by this scale
    divisor = getattr(attn.scaled_dot_product_attention, "keywords", {}).get("scale", attn.head_dims**0.5)
    weights = (q.float() @ k.float().mT / divisor).softmax(-1).mean(1)
    return _Layer(weights, x.shape[1] - int(np.prod(grid)), grid, grid)


def _pooling_layer(attn: FusedMultiScaleAttention, x: Tensor, grid: tuple[int, int, int], pool_skip: Any) -> _Layer:
    """Build the layer of an MViT's attention on normalised tokens (N, [1+] T*H*W, C)."""
    q, k, _, q_grid, k_grid = attn.pool(x, grid)
    logits = q.float() @ k.float().mT * attn.scale  # (N, num_heads, [1+] L', [1+] L'')
    by_position, positions = attn.positions(q, q_grid, k, k_grid)
    if by_position is not None and positions is not None:
        logits = logits + by_position.float() @ positions.float().mT
    return _Layer(
        logits.softmax(-1).mean(1),
        int(attn.with_cls_token),
        tuple(grid),
        tuple(q_grid),
        _mean_pooling(attn.pool_k),
        None if pool_skip is None else _mean_pooling(pool_skip),
    )


def _mean_pooling(pool: nn.Conv3d | nn.MaxPool3d) -> Callable[[Tensor], Tensor]:
    """Build a function that computes the mean over the window of a pooling layer, without positions in the padding."""
    settings: tuple[Any, ...] = (pool.kernel_size, pool.stride, pool.padding)
    size, stride, padding = ((s,) * 3 if isinstance(s, int) else tuple(s) for s in settings)

    def pooled(x: Tensor) -> Tensor:
        window = x.new_ones(1, 1, *size)
        count = F.conv3d(torch.ones_like(x), window, stride=stride, padding=padding)
        return F.conv3d(x, window, stride=stride, padding=padding) / count

    return pooled
