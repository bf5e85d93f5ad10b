"""k-NN evaluation of a checkpoint with the data of a fine-tuning config."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed

from maskfeat_plugin.checkpoints import CheckpointError
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.evaluation.features import extract_features
from maskfeat_plugin.evaluation.knn import knn_accuracy
from maskfeat_plugin.registry import MODELS

from .checks import check_config


def evaluate_knn(
    cfg: Config, checkpoint: str, k: Sequence[int] = (10, 20), temperature: float = 0.07, device: str = "cpu"
) -> dict[str, float]:
    """Classify the validation data by the nearest neighbours among the features of the training data.

    Both go through the pipeline of the validation data. The backbone's weights are loaded by ``maskfeat.Pretrained``;
    nothing is trained.

    Args:
        cfg (Config): Config of fine-tuning by mmpretrain or mmaction2.
        checkpoint (str): Checkpoint of any format of docs/checkpoints.md, pre-trained or fine-tuned.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): See :func:`knn_scores`. Defaults to 0.07.
        device (str): Where the features are computed. Defaults to "cpu".

    Returns:
        dict[str, float]: "top1_k10" and so on, in percent.

    Raises:
        ConfigError: If the config has no labelled training and validation data, or the checkpoint does not load.
    """
    queries_key = "val_dataloader" if cfg.get("val_dataloader") is not None else "test_dataloader"
    if cfg.get("train_dataloader") is None or cfg.get(queries_key) is None:
        raise ConfigError(
            f"{cfg.filename} has no labelled data to evaluate on; give the config of fine-tuning the same backbone, "
            "such as configs/classification/..., and the checkpoint of pre-training."
        )
    check_config(cfg, ("train_dataloader", queries_key))
    cfg.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=checkpoint)
    queries = cfg[queries_key]
    bank = copy.deepcopy(queries)
    bank.dataset = _once(cfg.train_dataloader.dataset, queries.dataset)
    for loader in (queries, bank):
        loader.sampler = dict(type="DefaultSampler", shuffle=False)
        loader.drop_last = False
    set_random_seed(cfg.get("randomness", {}).get("seed") or 0)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        try:
            model = MODELS.build(cfg.model)
            model.init_weights()
        except (CheckpointError, OSError) as error:
            raise ConfigError(str(error)) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"the model of {cfg.filename} cannot be built: {describe(error)}") from error
        model.to(device)
        try:
            features, labels = extract_features(model, Runner.build_dataloader(bank), "neighbours")
            found, truth = extract_features(model, Runner.build_dataloader(queries), "queries")
            num_classes = int(max(labels.max(), truth.max())) + 1
            return knn_accuracy(found, truth, features, labels, num_classes, k, temperature)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigError(f"{Path(cfg.filename).name}: {describe(error)}") from error


def _once(train: dict, queries: dict) -> dict:
    """The training data, each sample once, without what is random in its pipeline."""
    dataset = copy.deepcopy(train)
    if str(dataset.type).endswith("SkipBadFiles"):
        dataset.type = dataset.pop("dataset_type")
        for name in ("limit", "timeout", "list_file"):  # all are read here, or it is an error
            dataset.pop(name, None)
    if str(dataset.type).endswith("RepeatAugDataset"):
        dataset.type = queries.type
        dataset.pop("num_repeats", None)
    dataset.pipeline = queries.pipeline
    if "test_mode" in queries:
        dataset.test_mode = queries.test_mode
    return dataset
