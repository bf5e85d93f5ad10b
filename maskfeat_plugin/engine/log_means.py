"""Means in the log: values that are compared with each other are averaged over the same steps."""

import re
from collections.abc import Iterable, Mapping

from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

# Names in the log: of a loss, and of the loss of predicting the mean target
_LOSS, _BASELINE = "loss", "baseline"


class BatchMeans:
    """Settings of a log processor that make it average all values of a batch in the same way as the loss.

    mmengine averages values by their names: it averages losses over ``window_size`` steps, but shows a baseline or an
    accuracy of the last step only. Such numbers cannot be compared.

    Args:
        processor (LogProcessor): The log processor of a runner. Its ``mean_pattern`` and ``custom_cfg`` are extended. A
            ``mean_pattern`` that does not average losses is not changed.
    """

    def __init__(self, processor: LogProcessor) -> None:
        self.processor = processor
        self._pattern = processor.mean_pattern.pattern
        self._averages_loss = processor.mean_pattern.search(_LOSS) is not None
        self._names: set[str] = set()

    def include(self, names: Iterable[str]) -> None:
        """Average the values of these names too.

        Args:
            names (Iterable[str]): The names of all values that the model returned for a batch.
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
        """Log the result of the last evaluation alone, instead of a mean over several evaluations.

        Args:
            hub (MessageHub): The message hub of the runner.
            metrics (Mapping[str, object]): The metrics of the evaluation that is logged next.
        """
        custom = {entry["data_src"] for entry in self.processor.custom_cfg}
        for name in metrics.keys() - custom:
            buffer = hub.log_scalars.get(f"val/{name}")
            if buffer is not None and self.processor.mean_pattern.search(name):
                values, counts = buffer.data
                hub.log_scalars[f"val/{name}"] = HistoryBuffer(values[-1:], counts[-1:])


def _baseline_of(loss: str) -> str | None:
    """Return the name of the baseline that belongs to a loss. Return None if the name is not the name of a loss."""
    return loss.replace(_LOSS, _BASELINE, 1) if _LOSS in loss else None
