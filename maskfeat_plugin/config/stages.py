"""The checks of a config for each use: training, testing or k-NN."""

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from maskfeat_plugin.errors import ConfigError

from .checks import check_config
from .classes import check_class_files, check_classes_of_checkpoint, check_labels
from .held_out import check_held_out
from .structure import check_structure

# Required sections, dataloaders in use, and the split that is evaluated
_STAGES = {
    "train": (
        ("model", "train_dataloader", "train_cfg", "optim_wrapper"),
        ("train_dataloader", "val_dataloader"),
        "val",
    ),
    "test": (("model", "test_dataloader"), ("test_dataloader",), "test"),
}


def check(cfg: Config, stage: str) -> None:
    """Check a config before any part of it is built: its sections, files, masks, precision and classes.

    Args:
        cfg (Config): The config.
        stage (str): "train", "test", or "knn", which uses only the data.

    Raises:
        ConfigError: With the wrong key or file, and the correct setting.
        ValueError: If the stage is unknown.
    """
    if stage == "knn":
        keys = knn_dataloaders(cfg)
        # nothing is trained, so precision and weights do not matter
        check_config(Config({key: cfg[key] for key in keys}), keys)
        check_class_files(cfg, keys)
        return
    if stage not in _STAGES:
        raise ValueError(f"stage={stage!r} is unknown; choose one of {(*_STAGES, 'knn')}.")
    if stage == "test" and (cfg.get("test_dataloader") is None or cfg.get("test_cfg") is None):
        raise ConfigError(
            f"{cfg.filename} has no test_dataloader and test_cfg: a pre-training config has nothing to test; give the "
            "config of a fine-tuned model."
        )
    sections, dataloaders, split = _STAGES[stage]
    check_structure(cfg, sections)
    check_config(cfg, dataloaders)
    check_class_files(cfg, dataloaders)
    check_held_out(cfg, split)


def knn_dataloaders(cfg: Config) -> Sequence[str]:
    """Return the keys of the dataloaders with the neighbours and the queries of k-NN.

    Args:
        cfg (Config): The config.

    Raises:
        ConfigError: If the config lacks one of them.
    """
    queries = "val_dataloader" if cfg.get("val_dataloader") is not None else "test_dataloader"
    if cfg.get("train_dataloader") is None or cfg.get(queries) is None:
        raise ConfigError(
            f"{cfg.filename} has no labelled data to evaluate on; give the config of fine-tuning the same backbone, "
            "such as configs/classification/..., and the checkpoint of pre-training."
        )
    return "train_dataloader", queries


def check_built(runner: Runner, stage: str) -> None:
    """Compare the classes of the built data sets, heads and metrics, and of the checkpoint to test.

    Args:
        runner (Runner): The runner, whose loops of this stage are built.
        stage (str): "train" or "test".

    Raises:
        ConfigError: With the difference that was found.
    """
    datasets, metrics = {}, {}
    for split in ("train", "val") if stage == "train" else ("test",):
        if runner.cfg.get(f"{split}_dataloader") is None:
            continue
        loop = getattr(runner, f"{split}_loop")
        datasets[f"{split}_dataloader.dataset"] = loop.dataloader.dataset
        if split != "train":
            metrics[f"{split}_evaluator"] = loop.evaluator.metrics
    check_labels(runner.cfg, datasets, runner.model, metrics)
    if stage == "test":
        (key, dataset), *_ = datasets.items()
        check_classes_of_checkpoint(dataset, key, runner.cfg.get("load_from"))
