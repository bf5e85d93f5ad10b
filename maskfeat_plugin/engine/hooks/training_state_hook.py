"""Hook that logs the state of training: throughput, gradients, masks, memory, remaining time."""

from collections import deque
from functools import partial
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.optim import Optimizer

from maskfeat_plugin.registry import HOOKS

from ..deferred_history import log_deferred
from ..log_means import BatchMeans
from ..optim_wrappers import gradient_norm, gradient_scaling, whole
from ..process_info import child_processes, resident_memory
from .mask_ratio_hook import MaskRatioHook


@HOOKS.register_module()
class TrainingStateHook(Hook):
    """Hook that logs values of the training that mmengine's own hooks do not log.

    mmengine logs the loss, the learning rate, ``time`` and ``data_time`` in seconds, and on a GPU the largest
    ``memory`` in MB. This hook adds

    - ``samples_per_second``: images or clips of all processes, over the steps of the log's window;
    - ``grad_norm``: 2-norm of the gradients, unless ``optim_wrapper.clip_grad`` logs it (before clipping);
    - ``mask_ratio``: share of masked tokens in the batch, unless a :class:`MaskRatioHook` logs the ratio that it sets;
    - ``host_memory``: MB of this process and of its child processes; shared pages count once for each process;
    - ``seconds_left``: the estimate that the text log shows as ``eta``.

    mmengine averages losses over the steps of the window. It logs other values of a batch, such as ``baseline`` and
    accuracies, of the last step alone. With this hook all of them are means over the same steps. mmengine also averages
    a validation metric whose name contains ``loss`` over evaluations. With this hook it is logged unchanged.

    mmengine keeps each value of the last million steps, copies them at every step and writes them into each
    checkpoint. This hook shortens them to the last ``history`` steps, so that later steps and checkpoints take no more
    time than the first ones.

    Args:
        history (int): Number of steps whose values are kept. A longer window of ``log_processor`` sees only these
            steps. Defaults to 10000.

    Raises:
        ValueError: If ``history`` is not positive.
    """

    priority = "NORMAL"  # registered after the IterTimerHook, whose times it reads, and before the LoggerHook

    def __init__(self, history: int = 10_000) -> None:
        if history < 1:
            raise ValueError(f"TrainingStateHook: history={history} has to be at least 1.")
        self.history = history
        self._window: deque[tuple[int, float]] = deque()
        self._samples = 0
        self._has_schedule = False
        self._means: BatchMeans | None = None

    def before_train(self, runner: Runner) -> None:
        """Read the log's window size, and register a measurement of gradients that nothing else measures."""
        self._window = deque(maxlen=max(int(runner.log_processor.window_size), 1))
        if self._means is None or self._means.processor is not runner.log_processor:
            self._means = BatchMeans(runner.log_processor)
        self._has_schedule = any(isinstance(hook, MaskRatioHook) for hook in runner.hooks)
        wrappers = runner.optim_wrapper
        wrappers = wrappers.optim_wrappers.items() if isinstance(wrappers, OptimWrapperDict) else [("", wrappers)]
        for name, wrapper in wrappers:
            clips = getattr(wrapper, "clip_grad_kwargs", None) and getattr(wrapper, "grad_name", "") == "grad_norm"
            if clips:
                if getattr(wrapper, "clip_func", None) is nn.utils.clip_grad_norm_:
                    wrapper.clip_func = partial(_clip_and_log, runner.message_hub, "train/grad_norm")
            # the engine of a strategy may not call the optimizer's hooks
            elif isinstance(wrapper.optimizer, Optimizer):
                key = f"train/{name}.grad_norm" if name else "train/grad_norm"
                wrapper.optimizer.register_step_pre_hook(partial(_log_grad_norm, runner.message_hub, key))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Count the samples, and compute the share of masked tokens in the samples that have a mask."""
        batch = data_batch if isinstance(data_batch, dict) else {}
        samples = batch.get("data_samples") or ()
        self._samples = len(samples or batch.get("inputs", ()))  # the inputs of images with two views are two lists
        masks = [sample.mask for sample in samples if getattr(sample, "mask", None) is not None]
        if masks and not self._has_schedule:
            ratios = [torch.as_tensor(mask).float().mean().item() for mask in masks]
            runner.message_hub.update_scalar("train/mask_ratio", sum(ratios) / len(ratios))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log the state after the step, and shorten the history."""
        hub = runner.message_hub
        assert self._means is not None  # set in before_train
        self._means.include(outputs or ())
        if "train/time" in hub.log_scalars and self._samples:
            self._window.append((self._samples * get_world_size(), hub.get_scalar("train/time").current()))
            samples, seconds = map(sum, zip(*self._window, strict=True))
            hub.update_scalar("train/samples_per_second", samples / max(seconds, 1e-9), resumed=False)
        memory = resident_memory() + sum(map(resident_memory, child_processes()))
        hub.update_scalar("train/host_memory", memory / 2**20, resumed=False)
        if "eta" in hub.runtime_info:
            hub.update_scalar("train/seconds_left", max(float(hub.get_info("eta")), 0.0), resumed=False)
        if self.every_n_train_iters(runner, self.history):
            self._shorten(hub)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Make the metrics appear unchanged in the log."""
        (self._means or BatchMeans(runner.log_processor)).keep_last(runner.message_hub, metrics or {})

    def _shorten(self, hub: MessageHub) -> None:
        for key, buffer in hub.log_scalars.items():
            values, counts = buffer.data
            if len(values) > self.history:
                hub.log_scalars[key] = HistoryBuffer(values[-self.history :], counts[-self.history :])


def _log_grad_norm(hub: MessageHub, key: str, optimizer: Optimizer, *args: object) -> None:
    """Log the norm of the gradients that an optimizer is about to use. In mixed precision they are unscaled."""
    norm = gradient_norm(optimizer)
    if norm is not None:
        scaling = gradient_scaling(optimizer)
        log_deferred(hub, key, norm / (1.0 if scaling is None else scaling))


def _clip_and_log(hub: MessageHub, key: str, parameters: list[nn.Parameter], **settings: Any) -> None:
    """Clip gradients, and log their norm before that without waiting for the device.

    mmengine's wrapper logs the norm that a function of clipping returns, and waits for it. This one returns none.
    """
    log_deferred(hub, key, whole(torch.nn.utils.clip_grad_norm_(parameters, **settings)))
