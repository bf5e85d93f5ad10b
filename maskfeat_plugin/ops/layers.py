"""Layers computed by the fast functions of this package where the gate allows it, else by calling them."""

from typing import Any

import mmengine.model
from mmaction.models.backbones.mvit import MLP, attention_pool
from torch import Tensor, nn

from .gate import LINEAR, may_bypass
from .grids import Grid
from .linear import linear, normed_linear
from .max_pooling import max_pool_tokens
from .mlp import normed_mlp

# Annotated as Any where the gate checks the class of the layer, which a type checker cannot follow


def apply_layer(layer: Any, x: Tensor) -> Tensor:
    """Compute ``layer(x)``, with :func:`.linear.linear` for linear layers, also inside a ``Sequential``.

    Args:
        layer (nn.Module): The layer.
        x (Tensor): Inputs (*, C).

    Returns:
        Tensor: (*, D).
    """
    if isinstance(layer, nn.Linear) and may_bypass((layer, LINEAR)):
        return linear(x, layer.weight, layer.bias)
    if isinstance(layer, nn.Sequential) and may_bypass((layer, (nn.Sequential, mmengine.model.Sequential))):
        for child in layer:
            x = apply_layer(child, x)
        return x
    return layer(x)


def may_fuse(x: Tensor, norm: Any, *layers: tuple[nn.Module, type | tuple[type, ...]]) -> bool:
    """Check whether oneDNN may compute a norm and the layers after it together.

    Args:
        x (Tensor): Inputs (*, C).
        norm (nn.Module): The norm.
        *layers (tuple[nn.Module, type | tuple[type, ...]]): Pairs of a layer and its classes, as for
            :func:`may_bypass`.

    Returns:
        bool: True if :func:`may_bypass` allows it, and the norm is a layer norm of the last dimension with a bias.
    """
    if not isinstance(norm, nn.LayerNorm) or not may_bypass((norm, nn.LayerNorm), *layers, inputs=x):
        return False
    return len(norm.normalized_shape) == 1 and norm.bias is not None


def norm_linear(x: Tensor, norm: Any, layer: Any) -> Tensor:
    """Compute ``layer(norm(x))``. In float32 on a CPU, normalised inputs are not kept for the backward pass.

    Args:
        x (Tensor): Inputs (*, C).
        norm (nn.Module): Norm over C.
        layer (nn.Module): Layer from C to D channels.

    Returns:
        Tensor: (*, D).
    """
    if isinstance(norm, nn.LayerNorm) and isinstance(layer, nn.Linear) and may_fuse(x, norm, (layer, LINEAR)):
        return normed_linear(x, norm.weight, norm.bias, norm.eps, layer.weight, layer.bias)
    return apply_layer(layer, norm(x))


def fuses_mlp(x: Tensor, norm: nn.Module, mlp: MLP) -> bool:
    """Check whether :func:`norm_mlp` accepts tokens and layers.

    Args:
        x (Tensor): Tokens (B, L, C).
        norm (nn.Module): The norm before the MLP.
        mlp (MLP): The MLP.

    Returns:
        bool: True if :func:`may_fuse` allows it for all layers, and the MLP is mmaction2's with exact GELU.
    """
    if not isinstance(mlp, MLP) or not may_bypass((mlp, MLP)) or not x.numel():
        return False
    if not may_fuse(x, norm, (mlp.fc1, LINEAR), (mlp.act, nn.GELU), (mlp.fc2, LINEAR)):
        return False
    return mlp.act.approximate == "none" and None not in (mlp.fc1.bias, mlp.fc2.bias)


def norm_mlp(x: Tensor, norm: nn.LayerNorm, mlp: MLP) -> Tensor:
    """Compute ``mlp(norm(x))`` with :func:`.mlp.normed_mlp`. Call it only where :func:`fuses_mlp` is true.

    Args:
        x (Tensor): Tokens (B, L, C).
        norm (nn.LayerNorm): The norm before the MLP.
        mlp (MLP): mmaction2's MLP.

    Returns:
        Tensor: (B, L, C').
    """
    fc1, fc2 = mlp.fc1, mlp.fc2
    return normed_mlp(x, norm.weight, norm.bias, norm.eps, fc1.weight, fc1.bias, fc2.weight, fc2.bias)


def pool_tokens(x: Tensor, pool: Any, grid: Grid, extra_tokens: int) -> Tensor:
    """Pool tokens on their grid, as mmaction2's ``attention_pool`` does.

    Args:
        x (Tensor): Tokens (B, E+T*H*W, C). The E extra tokens come first and are not pooled.
        pool (nn.Module): The pooling layer.
        grid (Grid): (T, H, W).
        extra_tokens (int): Number E of extra tokens, 0 or 1.

    Returns:
        Tensor: (B, E+T'*H'*W', C).
    """
    sizes = _sizes_within_frames(pool) if x.device.type == "cpu" else None
    if sizes is None:
        return attention_pool(x, pool, grid, bool(extra_tokens))[0]
    return max_pool_tokens(x, tuple(grid), extra_tokens, *sizes)


def _sizes_within_frames(pool: nn.Module) -> list[tuple[int, ...]] | None:
    """Return height and width of kernel, stride and padding, None if it is not a max pooling of single frames."""
    if not isinstance(pool, nn.MaxPool3d) or not may_bypass((pool, nn.MaxPool3d)):
        return None
    if (pool.dilation, pool.ceil_mode, pool.return_indices) != (1, False, False):
        return None
    sizes = (pool.kernel_size, pool.stride, pool.padding)
    axes = [tuple(size) for size in sizes if isinstance(size, list | tuple)]
    return [size[1:] for size in axes] if [size[0] for size in axes] == [1, 1, 0] else None


def is_bare_depthwise(conv: nn.Conv3d) -> bool:
    """Check whether :func:`.depthwise_conv.depthwise_conv3d` can compute a layer from its weights.

    Args:
        conv (nn.Module): The layer.

    Returns:
        bool: True if :func:`may_bypass` allows it, and the layer is a depthwise convolution of clips without bias,
            padded with zeros by a number.
    """
    return (
        isinstance(conv, nn.Conv3d)
        and may_bypass((conv, nn.Conv3d))
        and conv.groups == conv.in_channels == conv.out_channels
        and (conv.bias, conv.dilation, conv.padding_mode) == (None, (1, 1, 1), "zeros")
        and not isinstance(conv.padding, str)  # "same"
    )
