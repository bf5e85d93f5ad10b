"""The inputs of a training according to its config: their size and their masks."""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from mmengine.utils import to_2tuple
from mmpretrain.structures import DataSample
from torch import Tensor

from maskfeat_plugin.errors import ConfigError

from .sample_sizes import class_name
from .sample_sizes import input_size as pipeline_size


def mask_generator(cfg: Config) -> dict:
    """Return the config of the mask generator in the training pipeline.

    Raises:
        ConfigError: If there is no mask generator.
    """
    for transform in cfg.train_dataloader.dataset.pipeline:
        if "token_grid" in transform:
            return dict(transform)
    raise ConfigError(f"{cfg.filename}: train_dataloader.dataset.pipeline has no mask generator of maskfeat. Add one.")


def views_per_sample(cfg: Config) -> int:
    """Return the number of views of each sample that the training pipeline of a config makes."""
    for transform in cfg.train_dataloader.dataset.pipeline:
        if class_name(transform) == "MultiView":
            numbers = transform["num_views"]
            return numbers if isinstance(numbers, int) else sum(numbers)
    return 1


def collate(cfg: Config, inputs: Sequence[Tensor], samples: Sequence[BaseDataElement]) -> dict:
    """Put made-up inputs into the batch that the data preprocessor of a config of pre-training gets.

    Args:
        cfg (Config): The config.
        inputs (Sequence[Tensor]): Images (C, H, W) or clips (C, T, H, W), the views of a sample one after another.
        samples (Sequence[BaseDataElement]): The mask of each input, (H', W') or (T', H', W').

    Returns:
        dict: ``inputs`` and ``data_samples``, as ``maskfeat.MultiView`` and a packing transform make them.
    """
    views = views_per_sample(cfg)
    if views == 1:
        return dict(inputs=list(inputs), data_samples=list(samples))
    masks = [torch.as_tensor(sample.mask) for sample in samples]
    masks = [mask.reshape(-1, *mask.shape[-2:]) for mask in masks]
    pairs = [DataSample(mask=torch.stack(masks[i : i + views])) for i in range(0, len(masks), views)]
    if inputs[0].dim() == 3:
        return dict(inputs=[list(inputs[i::views]) for i in range(views)], data_samples=pairs)
    return dict(
        inputs=[torch.stack(tuple(inputs[i : i + views])) for i in range(0, len(inputs), views)], data_samples=pairs
    )


def input_size(cfg: Config) -> tuple[int, ...]:
    """Return the size of a config's training inputs, from its pipeline or else from its backbone.

    Args:
        cfg (Config): The config.

    Returns:
        tuple[int, ...]: (H, W) or (T, H, W), in pixels and frames.

    Raises:
        ConfigError: If neither determines the size.
    """
    backbone, dataset = cfg.model.backbone, (cfg.get("train_dataloader") or {}).get("dataset") or {}
    size = pipeline_size(dataset.get("pipeline"), cfg.get("default_scope"))
    if size is not None:
        return size
    if "img_size" in backbone:
        return to_2tuple(backbone.img_size)
    if "temporal_size" in backbone and "spatial_size" in backbone:
        return (backbone.temporal_size, *to_2tuple(backbone.spatial_size))
    raise ConfigError(f"{cfg.filename}: set model.backbone.img_size, or temporal_size and spatial_size for clips.")
