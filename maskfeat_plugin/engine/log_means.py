"""Means in the log: values that are compared with each other are averaged over the same steps."""

import re
from collections.abc import Iterable, Mapping

from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

# What a model calls a loss, and the loss of predicting the mean target
_LOSS, _BASELINE = "loss", "baseline"


class BatchMeans:
    """Has a log processor average all values of a batch as it averages the loss.

    mmengine averages values by their names: losses over ``window_size`` steps, while a baseline or an accuracy beside
    them is that of the last step. Such numbers cannot be compared.

    Args:
        processor (LogProcessor): A runner's. Its ``mean_pattern`` and ``custom_cfg`` are extended; a pattern that does
            not average losses stays as it is.
    """

    def __init__(self, processor: LogProcessor) -> None:
        self.processor = processor
        self._pattern = processor.mean_pattern.pattern
        self._averages_loss = processor.mean_pattern.search(_LOSS) is not None
        self._names: set[str] = set()

    def include(self, names: Iterable[str]) -> None:
        """Average values of these names too.

        Args:
            names (Iterable[str]): Names of all values that the model gave for a batch.
        """
        new = set(names) - self._names
        if not new:
            return
        self._names |= new
        if self._averages_loss:
            own = "|".join(re.escape(name) for name in sorted(self._names))
            self.processor.mean_pattern = re.compile(f"{self._pattern}|^(train/)?({own})$")
        given = {entry["data_src"] for entry in self.processor.custom_cfg}
        for entry in list(self.processor.custom_cfg):
            source = _baseline_of(entry["data_src"])
            if source in new - given:
                log_name = entry.get("log_name", entry["data_src"])
                copied = dict(entry, data_src=source, log_name=_baseline_of(log_name) or f"{log_name}_{_BASELINE}")
                self.processor.custom_cfg.append(copied)

    def keep_last(self, hub: MessageHub, metrics: Mapping[str, object]) -> None:
        """Have each evaluation logged as it is, and not as a mean over several evaluations.

        Args:
            hub (MessageHub): The runner's.
            metrics (Mapping[str, object]): Metrics of the evaluation that is about to be logged.
        """
        custom = {entry["data_src"] for entry in self.processor.custom_cfg}
        for name in metrics.keys() - custom:
            buffer = hub.log_scalars.get(f"val/{name}")
            if buffer is not None and self.processor.mean_pattern.search(name):
                values, counts = buffer.data
                hub.log_scalars[f"val/{name}"] = HistoryBuffer(values[-1:], counts[-1:])


def _baseline_of(loss: str) -> str | None:
    """Return the name of the baseline beside a loss, None for the name of another value."""
    return loss.replace(_LOSS, _BASELINE, 1) if _LOSS in loss else None
