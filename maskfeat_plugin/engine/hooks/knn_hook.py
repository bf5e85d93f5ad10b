"""How good the features are, seen during pre-training without any training on labels."""

from collections.abc import Sequence
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from maskfeat_plugin.evaluation.features import compute_features
from maskfeat_plugin.evaluation.knn import knn_accuracy
from maskfeat_plugin.registry import HOOKS


@HOOKS.register_module()
class KNNHook(Hook):
    """Classify by the nearest neighbours among the features of labelled samples, every so often and at the end.

    The accuracies are logged and added to the visualizer's scalars (JSON, TensorBoard and so on) as
    ``knn/top1_k20``, in percent. Training goes on as if nothing had happened: the random state is kept.

    Args:
        features_dataloader (dict): Config of the labelled samples that vote. Its sampler, if none is given, takes every
            sample once in order.
        query_dataloader (dict): Config of the samples to classify.
        num_classes (int): Number of classes.
        interval (int): Epochs or iterations from one evaluation to the next. Defaults to 1.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): See :func:`knn_scores`. Defaults to 0.07.

    Raises:
        ValueError: If ``interval`` is not positive, a dataloader drops samples, or a label is not a class.
    """

    priority = "NORMAL"  # before the LoggerHook and the CheckpointHook

    def __init__(
        self,
        features_dataloader: dict,
        query_dataloader: dict,
        num_classes: int,
        interval: int = 1,
        by_epoch: bool = True,
        k: Sequence[int] = (10, 20),
        temperature: float = 0.07,
    ) -> None:
        if interval < 1:
            raise ValueError(f"KNNHook: interval={interval} has to be at least 1.")
        self.dataloaders: dict[str, Any] = dict(
            features_dataloader=features_dataloader, query_dataloader=query_dataloader
        )
        for key, config in self.dataloaders.items():
            if config.get("drop_last"):
                raise ValueError(f"KNNHook: {key}.drop_last=True would leave samples out; remove it.")
        self.num_classes = num_classes
        self.interval = interval
        self.by_epoch = by_epoch
        self.k = tuple(k)
        self.temperature = temperature
        self._last_iter = -1

    def before_train(self, runner: Runner) -> None:
        """Build the data sets, so that a mistake in them shows before training."""
        self.dataloaders = {key: _build(runner, config) for key, config in self.dataloaders.items()}

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate after every ``interval`` epochs."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self.evaluate(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Evaluate after every ``interval`` iterations."""
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self.evaluate(runner, runner.iter + 1)  # the runner counts it afterwards

    def after_train(self, runner: Runner) -> None:
        """Evaluate what training ends with."""
        if runner.iter != self._last_iter:
            self.evaluate(runner)

    def evaluate(self, runner: Runner, step: int | None = None) -> dict[str, float]:
        """Evaluate now.

        Args:
            runner (Runner): Its model gives the features.
            step (int, optional): Iterations that were trained. Defaults to None: ``runner.iter``.

        Returns:
            dict[str, float]: "knn/top1_k10" and so on, in percent, the same on every process.
        """
        step = runner.iter if step is None else step
        found = [compute_features(runner.model, loader) for loader in self.dataloaders.values()]
        metrics = None
        if found[0] is not None and found[1] is not None:  # the first process, which has those of all
            (features, labels), (queries, truth) = found[0], found[1]
            metrics = knn_accuracy(queries, truth, features, labels, self.num_classes, self.k, self.temperature)
        shared: list[Any] = [metrics]
        broadcast_object_list(shared)
        metrics = {f"knn/{name}": value for name, value in shared[0].items()}
        for name, value in metrics.items():
            runner.message_hub.update_scalar(name, value)
        runner.visualizer.add_scalars(metrics, step=step)
        runner.logger.info("k-NN: " + "  ".join(f"{name}: {value:.2f}" for name, value in metrics.items()))
        self._last_iter = step
        return metrics


def _build(runner: Runner, config: dict | DataLoader) -> DataLoader:
    """A dataloader that takes every sample once, in order."""
    if isinstance(config, DataLoader):
        return config
    config = dict(config)
    config.setdefault("sampler", dict(type="DefaultSampler", shuffle=False))
    return runner.build_dataloader(config, seed=runner.seed)
