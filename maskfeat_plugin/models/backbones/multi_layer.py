"""Masked backbones that also return tokens of earlier layers, for targets at several depths."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, check_mask, group_tokens, masked_places, select_tokens
from .masked_mvit import MaskedMViT
from .masked_vit import MaskedViT


@MODELS.register_module()
class MultiLayerMaskedViT(MaskedViT):
    """:class:`MaskedViT` whose ``masked_tokens`` also returns the masked tokens of earlier layers.

    Use it with :class:`MultiLayerNeck`, as in LocalMIM (Wang et al., 2023). It has the parameters of
    :class:`MaskedViT`.

    Args:
        early_layers (Sequence[int]): Layers before the last one whose masked tokens are returned too, counted from 0,
            in ascending order.
        **kwargs: All arguments of :class:`MaskedViT`.

    Raises:
        ValueError: If ``early_layers`` does not fit the depth, or as :class:`MaskedViT`.
    """

    def __init__(self, early_layers: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.early_layers = _check_layers(early_layers, len(self.layers))

    def masked_tokens(  # type: ignore[override] # the tokens of several layers
        self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None
    ) -> tuple[Tensor, ...]:
        """Compute the tokens at the masked places after each of ``early_layers`` and after the last layer.

        Args: as in the parent.

        Returns:
            tuple[Tensor, ...]: (M, C) for each layer, in the order of the layers. The early tokens are normalised
            without learned weights.

        Raises:
            ValueError: As the parent.
        """
        places = masked_places(mask) if places is None else places
        return tuple(self._layer_tokens(x, mask, places))

    def _layer_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None) -> Iterator[Tensor]:
        x = self.pre_norm(self.drop_after_pos(self._embed_masked(x, mask)))  # (N, [1+] L, C)
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if i in self.early_layers:
                yield _normalised(select_tokens(x[:, self.num_extra_tokens :], mask, places))
        if places is None:
            x = select_tokens(self.layers[-1](x)[:, self.num_extra_tokens :], mask, places)
        else:
            x = self.layers[-1](x, places).flatten(0, 1)
        yield self.ln1(x) if self.final_norm else x


@MODELS.register_module()
class MultiLayerMaskedMViT(MaskedMViT):
    """:class:`MaskedMViT` whose ``masked_tokens`` also returns the masked tokens of earlier blocks.

    Early blocks have finer token grids, but masks are given on the grid of the last block. So the tokens of a finer
    grid that lie under one masked token are concatenated: with 4 x 4 of them, C becomes 16 C. Use it with
    :class:`MultiLayerNeck`, as in LocalMIM (Wang et al., 2023). It has the parameters of :class:`MaskedMViT`.

    Args:
        early_layers (Sequence[int]): Blocks before the last one whose masked tokens are returned too, counted from 0,
            in ascending order.
        **kwargs: All arguments of :class:`MaskedMViT`.

    Raises:
        ValueError: If ``early_layers`` does not fit the depth, or as :class:`MaskedMViT`.
    """

    def __init__(self, early_layers: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.early_layers = _check_layers(early_layers, len(self.blocks))

    def masked_tokens(  # type: ignore[override] # the tokens of several blocks
        self, x: Tensor, mask: Tensor, places: TokenPlaces | None = None
    ) -> tuple[Tensor, ...]:
        """Compute the tokens at the masked places after each of ``early_layers`` and after the last block.

        Args: as in the parent.

        Returns:
            tuple[Tensor, ...]: (M, S * C) for each block, in the order of the blocks, with the S tokens of its grid
            that lie under a masked token, row by row. The early tokens are normalised without learned weights.

        Raises:
            ValueError: As the parent.
        """
        places = masked_places(mask) if places is None else places
        return tuple(self._block_tokens(x, mask, places))

    def _block_tokens(self, x: Tensor, mask: Tensor, places: TokenPlaces | None) -> Iterator[Tensor]:
        token_grid = self.token_grid(x.shape[2:])
        check_mask(mask, len(x), token_grid)
        first = int(self.with_cls_token)
        x, grid = self._embed(x, mask, self.mask_token)
        for i, block in enumerate(self.blocks[:-1]):
            x, grid = self._run_block(block, x, grid)  # (N, [1+] L, C)
            if i in self.early_layers:
                tokens = group_tokens(x[:, first:], grid, token_grid).flatten(2)  # (N, T'*H'*W', S*C)
                yield _normalised(select_tokens(tokens, mask, places).unflatten(1, (-1, x.shape[2]))).flatten(1)
        if places is None:
            x = select_tokens(self._run_block(self.blocks[-1], x, grid)[0][:, first:], mask, places)
        else:
            x = self._run_block(self.blocks[-1], x, grid, places)[0].flatten(0, 1)
        yield self._last_norm(x)


def _check_layers(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    layers = tuple(layers)
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > depth - 2:
        raise ValueError(
            f"early_layers={layers} must be ascending numbers from 0 to {depth - 2}: the backbone has {depth} layers, "
            "and the last one is always returned."
        )
    return layers


def _normalised(tokens: Tensor) -> Tensor:
    """Layer-normalise tokens (..., C); the linear layer of the neck can learn scale and shift."""
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
