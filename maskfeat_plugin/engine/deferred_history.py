"""Values that stay on the device until somebody reads them: logged values, and flags of a step."""

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

_MOST = 1000  # values that are kept on the device
_WITHOUT_STREAMS = ("cpu", "meta")


class LateValue:
    """Copy of a tensor to the host that does not wait for the device, and can be read later.

    Args:
        value (Tensor): A tensor on any device. Its copy starts when the device has computed it.
    """

    def __init__(self, value: Tensor) -> None:
        self._copy = value.detach().to("cpu", non_blocking=True)  # from a GPU, into pinned memory
        self._copied = None
        if value.device.type not in _WITHOUT_STREAMS:
            self._copied = torch.get_device_module(value.device).current_stream(value.device).record_event()

    def read(self) -> Tensor:
        """Return the copy. The host waits here, unless the device has computed and copied the value before."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copy


class DeferredHistory(HistoryBuffer):
    """``HistoryBuffer`` that also takes tensors, and copies them to the host when it is read.

    ``HistoryBuffer`` takes numbers. To log a loss in every step, the host then waits in every step until the device
    has computed it, and cannot prepare the next one. A reader, such as ``LoggerHook`` at its interval, gets all values
    since the last reading with one copy. Checkpoints contain a plain ``HistoryBuffer``.

    Args:
        *args, **kwargs: As in ``HistoryBuffer``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pending: list[Tensor] = []
        super().__init__(*args, **kwargs)

    def update(self, log_val: int | float | Tensor, count: int = 1) -> None:
        """Add a value.

        Args:
            log_val (int | float | Tensor): The value; a tensor has one element.
            count (int): The number of times that it counts in means. A tensor counts once. Defaults to 1.
        """
        if isinstance(log_val, Tensor) and count == 1:
            self._pending.append(log_val.detach().reshape(()))
            if len(self._pending) >= _MOST:
                self._read()
            return
        super().update(log_val.item() if isinstance(log_val, Tensor) else log_val, count)

    def latest(self) -> int | float | Tensor:
        """Return the last value without reading it from the device."""
        return self._pending[-1] if self._pending else self.current()

    def _read(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, []
            for value in torch.stack(pending).tolist():
                super().update(value)

    # The parent reads and writes these attributes in all of its methods
    @property
    def _log_history(self) -> np.ndarray:
        self._read()
        return self._values

    @_log_history.setter
    def _log_history(self, values: np.ndarray) -> None:
        self._values = values

    @property
    def _count_history(self) -> np.ndarray:
        self._read()
        return self._counts

    @_count_history.setter
    def _count_history(self, counts: np.ndarray) -> None:
        self._counts = counts

    def __reduce__(self) -> tuple:
        return HistoryBuffer, (*self.data, self.max_length)


def log_deferred(hub: MessageHub, key: str, value: int | float | Tensor) -> None:
    """Log a value as ``MessageHub.update_scalar`` does, without waiting for the device.

    Args:
        hub (MessageHub): The runner's.
        key (str): Name of the value, such as "train/loss".
        value (int | float | Tensor): The value; a tensor has one element.
    """
    history = hub.log_scalars.get(key)
    if history is None:
        hub.update_scalar(key, 0.0)  # makes it a value that checkpoints keep
        history = hub.log_scalars[key] = DeferredHistory()
    if not isinstance(history, DeferredHistory):
        history = hub.log_scalars[key] = DeferredHistory(*history.data, max_length=history.max_length)
    history.update(value)
