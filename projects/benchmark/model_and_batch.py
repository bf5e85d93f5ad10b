"""Models whose steps are measured at several sizes, and random batches for them."""

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor

from maskfeat_plugin.registry import MODELS, TRANSFORMS

from .rows import BASE_MODELS


def video_step(size: dict, device: torch.device | str = "cpu") -> tuple[BaseModel, Tensor, Tensor]:
    """Build MaskFeat with MViT-S and a batch for it.

    Args:
        size (dict): ``frames``, ``side`` in pixels, ``batch`` and mask ``ratio``.
        device (torch.device | str): Device of the model and the batch. Defaults to "cpu".

    Returns:
        tuple[BaseModel, Tensor, Tensor]: The model, random clips (N, 3, T, H, W) and their masks (N, T', H', W').
    """
    return model_and_batch("MViT-S", size, device)


def model_and_batch(model: str, size: dict, device: torch.device | str) -> tuple[BaseModel, Tensor, Tensor]:
    """Build MaskFeat with one of two backbones and a batch for it.

    Args:
        model (str): "MViT-S" for clips, or "ViT-B" for images.
        size (dict): The same keys as in :func:`video_step`. For images, ``frames`` is not used.
        device (torch.device | str): Device of the model and the batch.

    Returns:
        tuple[BaseModel, Tensor, Tensor]: The model, random inputs and their masks (N, T', H', W').
    """
    video = model == "MViT-S"
    config = Config.fromfile(BASE_MODELS / ("maskfeat_mvit-small.py" if video else "maskfeat_vit-base-p16.py")).model
    side, grid = size["side"], (size["side"] // 16,) * 2
    if video:
        config.backbone.update(temporal_size=size["frames"], spatial_size=side)
        grid = (size["frames"] // 2, *grid)
    else:
        config.backbone.img_size = side
    network = MODELS.build(config).to(device).train()
    kind = "Cube" if video else "Block"
    draw = TRANSFORMS.build(
        dict(type=f"maskfeat.{kind}MaskGenerator", token_grid=grid, mask_ratio=size["ratio"], seed=0)
    )
    mask = torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(size["batch"])]).to(device)
    shape = (3, size["frames"], side, side) if video else (3, side, side)
    inputs = torch.randn(size["batch"], *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return network, inputs, mask.view(size["batch"], -1, *grid[-2:])
