"""The inputs of a training according to its config: their size and their masks."""

from mmengine.config import Config
from mmengine.utils import to_2tuple

from maskfeat_plugin.errors import ConfigError

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
