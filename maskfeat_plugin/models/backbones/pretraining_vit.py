"""Parts that the masked and the visible ViT share."""

from typing import Any

from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from maskfeat_plugin.ops.grids import Grid

from ..utils import TokenPlaces, check_divisible, is_pretrained, set_authors_biases
from .vision_transformer import VisionTransformer


class PretrainingViT(VisionTransformer):
    """``mmpretrain.VisionTransformer`` with a token grid and the initial values of the authors' code.

    Args:
        arch (str | dict): Architecture, as in the parent. Defaults to "base".
        **kwargs: All other arguments of ``mmpretrain.VisionTransformer``.

    Raises:
        ValueError: If ``arch`` is unknown or ``img_size`` is not divisible by ``patch_size``.
    """

    def __init__(self, arch: str | dict = "base", **kwargs: Any) -> None:
        super().__init__(arch=arch, **kwargs)
        self.patch_size = tuple(self.patch_embed.projection.stride)
        self.token_grid(self.img_size)  # early check of img_size

    def init_weights(self) -> None:
        """Initialize as the authors' code does, except for the learned tokens.

        Weights come from a truncated normal with standard deviation 0.02. Biases of linear layers and layer norms are
        0.02. The bias of the patch embedding has torch's default, and the bias of the last norm is 0.
        """
        super().init_weights()
        if is_pretrained(self.init_cfg):
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
                nn.init.constant_(module.bias, 0.02)
        set_authors_biases(self.patch_embed.projection, self.ln1)

    def _init_tokens(self, *tokens: Tensor | None) -> None:
        """Initialize learned tokens from a truncated normal with standard deviation 0.02, unless pre-trained."""
        for token in tokens:
            if token is not None and not is_pretrained(self.init_cfg):
                trunc_normal_(token, std=0.02)

    def token_grid(self, input_size: tuple[int, ...]) -> Grid:
        """Return the token grid of an input.

        Args:
            input_size (tuple[int, ...]): (H, W) in pixels.

        Returns:
            Grid: (1, H', W').

        Raises:
            ValueError: If the size is not divisible by ``patch_size``.
        """
        rows, cols = check_divisible(input_size[-2:], self.patch_size, type(self).__name__)
        return 1, rows, cols

    def _positions(self, resolution: tuple[int, int]) -> Tensor:
        """Return the positions (1, [1+] L, C) for a resolution (H', W'), the class token's position first."""
        return resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            resolution,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens,
        )

    def _run_layers(self, x: Tensor, places: TokenPlaces | None = None) -> Tensor:
        """Run the layers and the final norm on tokens (N, [1+] L, C); return all, or the tokens (N, K, C) of places."""
        x = self.pre_norm(self.drop_after_pos(x))
        for layer in self.layers[:-1]:
            x = layer(x)
        x = self.layers[-1](x) if places is None else self.layers[-1](x, places)
        if self.final_norm:
            x = self.ln1(x)
        return x
