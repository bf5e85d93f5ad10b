"""Pixels, the simplest target."""

import torch
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS

from ..utils import TokenPlaces, frames_of_tokens, token_size
from .base import BaseTargetGenerator


@MODELS.register_module()
class PixelGenerator(BaseTargetGenerator):
    """Target generator of the pixels of the masked tokens (MaskFeat paper).

    For clips it takes the pixels of every token's first frame, as for HOG. The pixels are the normalised inputs of the
    model. With ``norm``, each token is shifted and scaled to mean 0 and variance 1 over all its pixels and channels, as
    in the authors' release and in ``mmpretrain.MAEPretrainHead`` (unbiased variance, plus 1e-6).

    Args:
        norm (bool): Whether each token is normalised by itself. Defaults to True.
        patch_size (int): Side of a token in pixels, for calls without a mask. Defaults to 16.
        temporal_stride (int): Frames that a token covers, for calls without a mask. Defaults to 2.
        init_cfg (dict, optional): Initialization config. Defaults to None.
    """

    def __init__(
        self, norm: bool = True, patch_size: int = 16, temporal_stride: int = 2, init_cfg: dict | None = None
    ) -> None:
        super().__init__(patch_size, temporal_stride, init_cfg)
        self.norm = norm
        self.register_buffer("input_mean", torch.zeros(1, 1, 1), persistent=False)
        self.register_buffer("input_std", torch.ones(1, 1, 1), persistent=False)

    def connect(self, model: nn.Module) -> None:
        """Read how the model normalises its inputs, see the parent."""
        for name in ("mean", "std"):
            value = getattr(model.data_preprocessor, name, None)
            if value is not None:
                setattr(self, f"input_{name}", value.detach().clone().view(-1, 1, 1))

    def generate(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Cut out the masked tokens.

        Args:
            inputs (Tensor): Normalised images (N, C, H, W) or clips (N, C, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: float32 (M, C * h * w) for tokens of h x w pixels, ordered by channel, row, column.

        Raises:
            ValueError: If the mask's grid does not fit the inputs.
        """
        return self._pixels(inputs, mask, None)

    def generate_at(self, inputs: Tensor, mask: Tensor, places: TokenPlaces) -> Tensor:
        """Cut out the masked tokens, see :meth:`generate`."""
        return self._pixels(inputs, mask, places)

    def _pixels(self, inputs: Tensor, mask: Tensor, places: TokenPlaces | None) -> Tensor:
        frames_per_token, height, width = token_size(inputs, mask)
        frames = frames_of_tokens(inputs, frames_per_token)  # (N, T', C, H, W)
        tokens = frames.unfold(3, height, height).unfold(4, width, width)  # (N, T', C, H', W', h, w), a view
        tokens = tokens.permute(0, 1, 3, 4, 2, 5, 6)  # (N, T', H', W', C, h, w), a view
        pixels = tokens[mask if places is None else places.on_grid()].flatten(1).float()  # (M, C*h*w)
        if self.norm:
            mean, variance = pixels.mean(-1, keepdim=True), pixels.var(-1, keepdim=True)
            pixels = (pixels - mean) / (variance + 1e-6).sqrt()
        return pixels

    def to_pixels(self, features: Tensor, pixels: Tensor) -> Tensor:
        """Convert features, for example predicted ones, back into pixels.

        Args:
            features (Tensor): Features (M, C * h * w) of tokens.
            pixels (Tensor): True pixels (M, C, h, w) of the tokens on the scale 0 to 255. Their mean and deviation
                undo ``norm``.

        Returns:
            Tensor: float32 (M, C, h, w), on the scale 0 to 255. Predictions may exceed the scale.

        Raises:
            ValueError: If the features and the pixels differ in size.
        """
        if features.shape != pixels.flatten(1).shape:
            raise ValueError(
                f"The features {tuple(features.shape)} do not fit tokens of {tuple(pixels.shape)} pixels (M, C, h, w)."
            )
        pixels, mean, std = pixels.float(), self.input_mean.to(pixels.device), self.input_std.to(pixels.device)
        values = features.float().view(pixels.shape)
        if self.norm:
            true = ((pixels - mean) / std).flatten(1)
            spread = (true.var(-1) + 1e-6).sqrt().view(-1, 1, 1, 1)
            values = values * spread + true.mean(-1).view(-1, 1, 1, 1)
        return values * std + mean
