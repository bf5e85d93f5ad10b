"""The light decoder between an encoder of visible tokens and the prediction layer."""

from functools import lru_cache

import torch
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from maskfeat_plugin.ops.grids import Grid
from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, VisibleUnits, select_tokens


@MODELS.register_module()
class MAEDecoder(BaseModule):
    """Decoder of a few transformer blocks over all tokens, with mask tokens at the masked positions.

    It follows MAE (He et al., 2022) and has the blocks of ``mmpretrain.MAEPretrainDecoder``. Unlike that decoder, it
    works on any token grid of images and clips, has no class token, and leaves the prediction to the neck, so it works
    with any target. Positions are fixed sines and cosines.

    Args:
        in_channels (int): Channels C of the encoder's tokens.
        embed_dims (int): Channels D of the decoder. Defaults to 384.
        num_layers (int): Number of blocks. Defaults to 4.
        num_heads (int): Attention heads of each block. Defaults to 6.
        mlp_ratio (int): Hidden channels of the MLPs as a multiple of ``embed_dims``. Defaults to 4.
        norm_cfg (dict): Config of the norms. Defaults to a layer norm with eps 1e-6.
        init_cfg (dict, optional): Initialization config. Defaults to None: Xavier's uniform weights and zero biases for
            linear layers.

    Raises:
        ValueError: If ``num_layers`` is not positive, or ``embed_dims`` is not divisible by ``num_heads`` or too small
            for the positions.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int = 384,
        num_layers: int = 4,
        num_heads: int = 6,
        mlp_ratio: int = 4,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type="Xavier", layer="Linear", distribution="uniform", bias=0.0)
        super().__init__(init_cfg=init_cfg)
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers} must be positive.")
        if embed_dims < 6 or embed_dims % num_heads:
            raise ValueError(f"embed_dims={embed_dims} must be at least 6 and divisible by num_heads={num_heads}.")
        self.embed_dims = embed_dims
        self.embed = nn.Linear(in_channels, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        norm_cfg = norm_cfg or dict(type="LN", eps=1e-6)
        self.layers = ModuleList(
            TransformerEncoderLayer(embed_dims, num_heads, mlp_ratio * embed_dims, norm_cfg=norm_cfg)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

    def init_weights(self) -> None:
        """Initialize as ``init_cfg`` says; the mask token from a normal distribution with deviation 0.02."""
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Decode.

        Args:
            tokens (Tensor): Visible tokens of the encoder (N, K, C), row by row.
            mask (Tensor): bool (N, T', H', W'), True where a token is masked; K are not.
            places (TokenPlaces, optional): The masked tokens. Defaults to None: the host waits for the device to find
                them.

        Returns:
            Tensor: The masked tokens (M, D), sample by sample, row by row.

        Raises:
            ValueError: If the number of the encoder's tokens is not the number of visible tokens of the mask.
        """
        grid = tuple(mask.shape[1:])
        visible = VisibleUnits(mask, None if places is None else places.index.shape[1]).tokens(grid)
        if tokens.shape[1] != visible.index.shape[1]:
            raise ValueError(
                f"The backbone gives {tokens.shape[1]} tokens per sample, but the mask leaves "
                f"{visible.index.shape[1]} visible; use maskfeat.VisibleViT or maskfeat.VisibleMViT."
            )
        x = visible.scatter(self.embed(tokens))  # (N, L, D)
        masked = mask.bool().flatten(1)  # (N, L)
        x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        x = x + sincos_positions(grid, self.embed_dims, x.device).to(x.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.norm(select_tokens(x, mask.bool(), places))


@lru_cache(maxsize=16)
def sincos_positions(grid: Grid, dims: int, device: torch.device) -> Tensor:
    """Compute fixed positions: sines and cosines of time, row and column, with an equal share of channels for each.

    Args:
        grid (Grid): Token grid (T', H', W'). An axis of length one gets no channels.
        dims (int): Number of channels. Channels that cannot be shared equally are zero.
        device (torch.device): Device of the result.

    Returns:
        Tensor: float32 (T'*H'*W', dims).
    """
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32, device=device) for n in grid), indexing="ij")
    axes = [axis.flatten() for axis, n in zip(axes, grid, strict=True) if n > 1]
    positions = torch.zeros(grid[0] * grid[1] * grid[2], dims, device=device)
    if axes:
        count = dims // (2 * len(axes))
        frequencies = 10000.0 ** (-torch.arange(count, device=device) / count)
        angles = torch.cat([axis[:, None] * frequencies for axis in axes], dim=1)  # (L, axes*count)
        codes = torch.cat((angles.sin(), angles.cos()), dim=1)
        positions[:, : codes.shape[1]] = codes
    return positions
