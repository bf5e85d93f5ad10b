"""MaskFeat built from mmaction2's MViT and mmpretrain's parts, as the peer of the plugin."""

from collections.abc import Callable

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS


class PeerVideoMaskFeat(nn.Module):
    """Pre-training of mmaction2's MViT with mmpretrain's HOG. It predicts all tokens; the loss uses the masked ones.

    Args:
        backbone (dict): Config of ``mmaction.MViT``, without the down-sampling of the last stage.
        in_channels (int): Channels of the backbone's last output.
        frame_stride (int): Frames per token. The first of them gives the target. Defaults to 2.
    """

    def __init__(self, backbone: dict, in_channels: int, frame_stride: int = 2) -> None:
        super().__init__()
        self.backbone = MODELS.build(dict(backbone, type="mmaction.MViT"))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.backbone.embed_dims))
        self.target_generator = MODELS.build(dict(type="mmpretrain.HOGGenerator", gaussian_window=0))
        self.decoder = nn.Linear(in_channels, 108)
        self.frame_stride = frame_stride
        self.backbone.patch_embed.register_forward_hook(self._hide)
        self._mask: Tensor | None = None

    def _hide(self, module: nn.Module, args: tuple, output: tuple[Tensor, tuple[int, ...]]) -> tuple:
        assert self._mask is not None  # the loss sets it
        tokens, grid = output  # (N, T' * 4H' * 4W', C); 4 x 4 of these are one token of the last stage
        scale = grid[-1] // self._mask.shape[-1]
        mask = self._mask.repeat_interleave(scale, 2).repeat_interleave(scale, 3).flatten(1).unsqueeze(2)
        return tokens * ~mask + self.mask_token * mask, grid

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            inputs (Tensor): Normalised clips (N, 3, T, H, W).
            mask (Tensor): bool (N, T', H', W').

        Returns:
            Tensor: Mean squared error of the masked tokens, a scalar.
        """
        self._mask = mask
        features = self.backbone(inputs)[-1][0]  # (N, C, T', H', W')
        pred = self.decoder(features.flatten(2).transpose(1, 2))
        frames = inputs[:, :, :: self.frame_stride].transpose(1, 2).flatten(0, 1)
        target = self.target_generator(frames).view_as(pred)
        masked = mask.flatten(1)
        return ((pred - target) ** 2).mean(-1)[masked].mean()


def image_maskfeat() -> BaseModel:
    """Build mmpretrain's MaskFeat with ViT-B as in its config, but without a Gaussian window, as the authors do."""
    return MODELS.build(
        dict(
            type="mmpretrain.MaskFeat",
            data_preprocessor=dict(type="mmpretrain.SelfSupDataPreprocessor"),
            backbone=dict(type="mmpretrain.MaskFeatViT", arch="b", patch_size=16),
            neck=dict(type="mmpretrain.LinearNeck", in_channels=768, out_channels=108, norm_cfg=None),
            head=dict(type="mmpretrain.MIMHead", loss=dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2")),
            target_generator=dict(type="mmpretrain.HOGGenerator", gaussian_window=0),
        )
    )


def optimizer(model: nn.Module) -> OptimWrapper:
    """Build AdamW with gradient clipping as in the pre-training configs. Both sides use it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return OptimWrapper(torch.optim.AdamW(trained, lr=1e-5, betas=(0.9, 0.95)), clip_grad=dict(max_norm=0.02))


def training(
    model: nn.Module, loss: Callable[[], Tensor], device: torch.device, bfloat16: bool | None = None
) -> Callable[[], Tensor]:
    """Return a function that trains a model for one step and returns the loss before the step.

    Args:
        model (nn.Module): The model.
        loss (Callable[[], Tensor]): Computes the loss of the model.
        device (torch.device): Device of the model.
        bfloat16 (bool, optional): Whether the step runs under autocast to bfloat16. Defaults to None: on a GPU.
    """
    enabled = device.type == "cuda" if bfloat16 is None else bfloat16
    wrapper = optimizer(model)

    def step() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            value = loss()
        wrapper.update_params(value)
        return value.detach()

    return step


def normal(*size: int) -> Tensor:
    """Return normally distributed numbers. The same size always gives the same numbers."""
    return torch.randn(size, generator=torch.Generator().manual_seed(0))
