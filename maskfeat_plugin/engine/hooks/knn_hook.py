"""Hook that measures the quality of the features by k-NN during pre-training, without training on labels."""

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
    """Hook that evaluates by k-nearest neighbours among the features of labelled samples.

    It evaluates at intervals and after training.

    The accuracies are logged and added to the visualizer's scalars (JSON, TensorBoard and so on) as
    ``knn/top1_k20``, in percent. The hook restores the random state, so it does not change the training.

    Args:
        features_dataloader (dict): Config of the labelled samples that vote. If it has no sampler, every sample is used
            once, in order.
        query_dataloader (dict): Config of the samples to classify.
        num_classes (int): Number of classes.
        interval (int): Number of epochs or iterations between two evaluations. Defaults to 1.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        k (Sequence[int]): Numbers of neighbours. Defaults to (10, 20).
        temperature (float): See :func:`knn_scores`. Defaults to 0.07.

    Raises:
        ValueError: If ``interval`` is not positive, if a dataloader drops samples, or if a label is not a class.
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
                raise ValueError(f"KNNHook: {key}.drop_last=True would leave samples out. Remove it.")
        self.num_classes = num_classes
        self.interval = interval
        self.by_epoch = by_epoch
        self.k = tuple(k)
        self.temperature = temperature
        self._last_iter = -1

    def before_train(self, runner: Runner) -> None:
        """Build the data sets, so that an error in them is found before training."""
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
            self.evaluate(runner, runner.iter + 1)  # the runner counts the iteration after its hooks

    def after_train(self, runner: Runner) -> None:
        """Evaluate the final model, unless the last iteration was evaluated already."""
        if runner.iter != self._last_iter:
            self.evaluate(runner)

    def evaluate(self, runner: Runner, step: int | None = None) -> dict[str, float]:
        """Compute and log the accuracies now.

        Args:
            runner (Runner): The runner whose model computes the features.
            step (int, optional): Number of trained iterations. Defaults to None: ``runner.iter``.

        Returns:
            dict[str, float]: "knn/top1_k10" and so on, in percent, the same on every process.
        """
        step = runner.iter if step is None else step
        found = [compute_features(runner.model, loader) for loader in self.dataloaders.values()]
        metrics = None
        if found[0] is not None and found[1] is not None:  # the first process, which has the features of all processes
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
    """Build a dataloader that gives every sample once, in order."""
    if isinstance(config, DataLoader):
        return config
    config = dict(config)
    config.setdefault("sampler", dict(type="DefaultSampler", shuffle=False))
    return runner.build_dataloader(config, seed=runner.seed)
