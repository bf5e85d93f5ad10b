"""Metric of pre-training on held-out data: the loss, and the loss of a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from torch import Tensor

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.models.losses import MaskedLoss
from maskfeat_plugin.models.utils import ONLY, by_name
from maskfeat_plugin.registry import METRICS


@dataclass
class _Target:
    """One target of one sample.

    Args:
        loss (MaskedLoss): Loss of the model for this target.
        losses (float): Sum of the losses of the masked tokens.
        features (Tensor): True features (M, D) or classes (M,), on the CPU.
        channels (int): D, or the number of classes.
    """

    loss: MaskedLoss
    losses: float
    features: Tensor
    channels: int

    def total(self) -> Tensor:
        """Sum the features over the tokens, or count the classes: (D,), float64."""
        if self.features.dim() == 1:
            return torch.bincount(self.features, minlength=self.channels).double()
        return self.features.double().sum(0)

    def baseline(self, total: Tensor, count: int) -> float:
        """Sum the losses of a prediction that is the mean of all data for every token.

        Args:
            total (Tensor): Sum of :meth:`total` over all samples.
            count (int): Number of all tokens.
        """
        mean = total / max(count, 1)
        if self.loss.kind == "cross_entropy":
            mean = mean.clamp_min(1e-12).log()  # logits whose softmax is the mean distribution
        pred = mean.float().expand(len(self.features), -1)
        return float(self.loss.token_losses(pred, self.features).double().sum())


@METRICS.register_module()
class MaskedLossMetric(BaseMetric):
    """Loss of :class:`MaskFeat` on held-out data, and the loss of a baseline.

    The baseline predicts the mean target of the held-out data for every token.

    The metrics are ``held_out/loss`` and ``held_out/baseline``. With several targets they are ``held_out/loss_<name>``
    and ``held_out/baseline_<name>`` for each target, and ``held_out/loss``, the sum of the losses. Every masked token
    has the same weight, so the numbers do not depend on the batch size or on the number of processes. Each process
    keeps the true features of its masked tokens until the evaluation ends.

    The masks must be the same in each evaluation: set ``seed`` of the mask generator in ``val_dataloader``.

    Args:
        loss (dict, optional): Arguments of the :class:`MaskedLoss` to compute, for a model with another loss. For
            several targets, a dict of such arguments by the name of the target. Defaults to None, the loss of the
            model.
        collect_device (str): See mmengine. Defaults to "cpu".
        prefix (str, optional): Prefix of the names of the metrics. Defaults to None, "held_out".

    Raises:
        ConfigError: In the first batch, if the model does not predict masked features, or its loss is not known.
    """

    default_prefix = "held_out"

    def __init__(self, loss: dict | None = None, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.loss = loss

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Compute the losses of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Samples of :meth:`MaskFeat.predict`.

        Raises:
            ConfigError: See the class.
        """
        for sample in data_samples:
            if "pred_features" not in sample or "target_features" not in sample:
                raise ConfigError(
                    "MaskedLossMetric needs a model that predicts features of masked tokens. "
                    "Set model.type='maskfeat.MaskFeat', or take another metric."
                )
            pred, target = by_name(sample["pred_features"]), by_name(sample["target_features"])
            losses = self._losses(sample.get("loss_settings"), list(target))
            self.results.append(
                {
                    name: _Target(
                        losses[name],
                        float(losses[name].token_losses(pred[name], target[name]).double().sum()),
                        target[name].cpu(),
                        pred[name].shape[-1],
                    )
                    for name in target
                }
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the metrics of the samples of one process; :meth:`evaluate` returns the metrics of all processes."""
        return self._compute(results)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics of all data, the same on every process.

        Args:
            size (int): Number of the samples. Samplers may repeat samples so that each process has the same number;
                repeated samples do not count.

        Returns:
            dict[str, float]: See the class.
        """
        own = self.results[: len(range(get_rank(), size, get_world_size()))]
        metrics = self._compute(own)
        self.results.clear()
        return {f"{self.prefix}/{name}" if self.prefix else name: value for name, value in metrics.items()}

    def _compute(self, samples: list[dict[str, _Target]]) -> dict[str, float]:
        """Compute the metrics of the samples of all processes."""
        sums: dict[str, list[Any]] = {}
        for sample in samples:
            for name, item in sample.items():
                losses, count, total = sums.get(name, (0.0, 0, 0.0))
                sums[name] = [losses + item.losses, count + len(item.features), total + item.total()]
        gathered = all_gather_object(sums)
        names = list(dict.fromkeys(name for part in gathered for name in part))
        merged = {name: [sum(column) for column in zip(*_parts(gathered, name), strict=True)] for name in names}
        own = {
            name: sum(sample[name].baseline(merged[name][2], merged[name][1]) for sample in samples) for name in names
        }
        baselines = all_gather_object(own)
        metrics: dict[str, float] = {}
        for name, (losses, count, _) in merged.items():
            suffix = f"_{name}" if name != ONLY else ""
            metrics[f"loss{suffix}"] = losses / max(count, 1)
            metrics[f"baseline{suffix}"] = sum(part[name] for part in baselines) / max(count, 1)
        if ONLY not in merged:
            metrics = dict(loss=sum(metrics[f"loss_{name}"] for name in merged), **metrics)
        return metrics

    def _losses(self, settings: dict | None, names: list[str]) -> dict[str, MaskedLoss]:
        """Build the losses by the names of the targets."""
        settings = settings if self.loss is None else self.loss
        known: dict[str, Any] = {ONLY: settings} if names == [ONLY] else settings or {}
        unknown = [name for name in names if not known.get(name)]
        if unknown:
            of_target = f" of the target {unknown[0]!r}" if unknown[0] else ""
            raise ConfigError(
                f"MaskedLossMetric does not know the loss{of_target}, because the head has no "
                "maskfeat.MaskedLoss. Set loss=dict(kind='mse'), or for several targets a dict of such dicts by name."
            )
        return {name: MaskedLoss(**known[name]) for name in names}


def _parts(gathered: Sequence[dict[str, list[Any]]], name: str) -> list[list[Any]]:
    """Return the sums of a target from all processes that have samples."""
    return [part[name] for part in gathered if name in part]
