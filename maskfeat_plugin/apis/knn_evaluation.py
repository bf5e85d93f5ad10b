"""k-NN evaluation of a checkpoint with the data of a fine-tuning config."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed

from maskfeat_plugin.config import check, knn_dataloaders
from maskfeat_plugin.config.folder_data import complete_endings
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.evaluation.features import compute_features
from maskfeat_plugin.evaluation.knn import knn_accuracy

from .model_loading import load_backbone

# Data sets that take several clips of a file -> their settings that a data set with one clip per file does not have
_SEVERAL_CLIPS = dict(
    RepeatAugDataset=("num_repeats", "sample_once"),
    ClipsByDuration=("clips_per_minute", "clips_per_epoch", "clips_per_file"),
)


def evaluate_knn(
    cfg: Config, checkpoint: str, k: Sequence[int] = (10, 20), temperature: float = 0.07, device: str = "cpu"
) -> dict[str, float]:
    """Classify the validation data by the nearest neighbours among the features of the training data.

    Both data sets go through the pipeline of the validation data. ``maskfeat.Pretrained`` loads the weights of the
    backbone. Nothing is trained.

    Args:
        cfg (Config): Config of fine-tuning with mmpretrain or mmaction2.
        checkpoint (str): Checkpoint of any format of docs/checkpoints.md, pre-trained or fine-tuned.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): See :func:`knn_scores`. Defaults to 0.07.
        device (str): Device that computes the features. Defaults to "cpu".

    Returns:
        dict[str, float]: "top1_k10" and so on, in percent.

    Raises:
        ConfigError: If the config has no labelled training and validation data, or the checkpoint does not load.
    """
    check(cfg, "knn")
    complete_endings(cfg)
    neighbours, queries = (cfg[key] for key in knn_dataloaders(cfg))
    bank = copy.deepcopy(queries)
    bank.dataset = each_once(neighbours.dataset, queries.dataset)
    for loader in (queries, bank):
        loader.sampler = dict(type="DefaultSampler", shuffle=False)
        loader.drop_last = False
    set_random_seed(cfg.get("randomness", {}).get("seed") or 0)
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        model = load_backbone(cfg, checkpoint, device)
        try:
            neighbours = compute_features(model, Runner.build_dataloader(bank), "neighbours")
            searched = compute_features(model, Runner.build_dataloader(queries), "queries")
            assert neighbours is not None and searched is not None  # this is a single process
            (features, labels), (found, truth) = neighbours, searched
            num_classes = int(max(labels.max(), truth.max())) + 1
            return knn_accuracy(found, truth, features, labels, num_classes, k, temperature)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigError(f"{Path(cfg.filename).name}: {describe(error)}") from error


def each_once(train: ConfigDict, queries: ConfigDict) -> ConfigDict:
    """Change the config of a training data set so that it gives each sample once, and the same sample each time.

    Args:
        train (ConfigDict): Config of the training data set.
        queries (ConfigDict): Config of the data set whose pipeline and ``test_mode`` the result uses.

    Returns:
        ConfigDict: Config of a data set with each sample once.
    """
    dataset = copy.deepcopy(train)
    if str(dataset.type).endswith("SkipBadFiles"):
        dataset.type = dataset.pop("dataset_type")
        for name in ("limit", "timeout", "list_file"):  # here a file that cannot be read is an error
            dataset.pop(name, None)
    kind = str(dataset.type).rpartition(".")[2]
    if kind in _SEVERAL_CLIPS:
        dataset.type = str(dataset.type).replace(kind, "VideoDataset")
        for name in _SEVERAL_CLIPS[kind]:
            dataset.pop(name, None)
    dataset.pipeline = queries.pipeline
    if "test_mode" in queries:
        dataset.test_mode = queries.test_mode
    return dataset
