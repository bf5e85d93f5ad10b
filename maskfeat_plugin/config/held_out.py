"""Check that a pre-training is evaluated on held-out data with constant masks, before anything is built."""

from mmengine.config import Config

from maskfeat_plugin.errors import ConfigError

from .walking import walk

_METRIC = "MaskedLossMetric"


def check_held_out(cfg: Config, split: str) -> None:
    """Check that :class:`MaskedLossMetric` gets the same masks in each evaluation.

    Args:
        cfg (Config): The config.
        split (str): "val" or "test": the split to check.

    Raises:
        ConfigError: If the pipeline has no mask generator, or one without a seed.
    """
    metrics = [node.get("type") for _, node in walk(cfg.get(f"{split}_evaluator"), f"{split}_evaluator")]
    key = f"{split}_dataloader"
    if cfg.get(key) is None or not any(str(kind).rpartition(".")[2] == _METRIC for kind in metrics):
        return
    generators = [node for node in walk(cfg[key], key) if str(node[1].get("type", "")).endswith("MaskGenerator")]
    if not generators:
        raise ConfigError(
            f"{key}: the pipeline has no mask generator, which {split}_evaluator (maskfeat.{_METRIC}) needs. Add "
            "the mask generator of train_dataloader, with seed=0."
        )
    for path, node in generators:
        if node.get("seed") is None:
            raise ConfigError(
                f"{path}: {node['type']} draws other masks in each evaluation, so the losses of {split}_evaluator "
                f"(maskfeat.{_METRIC}) cannot be compared. Set {path}.seed=0."
            )
