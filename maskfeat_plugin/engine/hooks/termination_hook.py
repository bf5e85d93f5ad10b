"""When a cluster takes the machine back: a checkpoint, and an exit status by which the job is started again."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from maskfeat_plugin.registry import HOOKS

from ..optim_wrappers import has_stepped
from .checkpoint_hook import CheckpointHook

# EX_TEMPFAIL of sysexits.h: a failure for now, try again
EXIT_STATUS = 75


@HOOKS.register_module()
class TerminationHook(Hook):
    """Ends a training at its next step when the process is told to end: saves a checkpoint and exits.

    ``--resume`` then goes on from that step. If one process of several is told, all of them end at the same step.
    Between the steps of an accumulated one there is no end. Until training begins, and where there is no
    :class:`CheckpointHook`, the signal ends the process as ever.

    Workers of the dataloaders, to which a cluster sends the signal too, read on until the training ends them (Linux).

    Args:
        signals (Sequence[str]): Names of the signals. Defaults to ("SIGTERM",).
        exit_status (int): With which the process exits. Defaults to 75, ``EX_TEMPFAIL``: neither 1, for an error, nor
            130, for Ctrl-C.

    Raises:
        ValueError: If there is no such signal, or the status is none of a failure.
    """

    priority = "LOWEST"  # after the step is counted, logged and saved by the others

    def __init__(self, signals: Sequence[str] = ("SIGTERM",), exit_status: int = EXIT_STATUS) -> None:
        known = {item.name: item for item in signal.Signals}
        unknown = [name for name in signals if name not in known or name in ("SIGKILL", "SIGSTOP")]
        if unknown:
            raise ValueError(f"TerminationHook: signals={tuple(signals)}: {unknown[0]!r} is none that can be received.")
        if not 0 < exit_status < 256:
            raise ValueError(f"TerminationHook: exit_status={exit_status} has to be in 1 to 255.")
        self.signals = [known[name] for name in signals]
        self.exit_status = exit_status
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}
        self._saver: CheckpointHook | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to listen."""
        self._saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if self._saver is None or threading.current_thread() is not threading.main_thread():
            return
        loops = [runner.train_loop] if runner.val_loop is None else [runner.train_loop, runner.val_loop]
        for loop in loops:
            _shield(loop.dataloader, self.signals)
        self._before = {item: signal.signal(item, self._note) for item in self.signals}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """End, if a process was told to and no step is being accumulated."""
        self._end_if_told(runner, runner.iter + 1)  # the runner counts it afterwards

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """End in the middle of an evaluation, which would take too long to wait for; it is left out then."""
        self._end_if_told(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Listen no longer."""
        for item, handler in self._before.items():
            signal.signal(item, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = signal.Signals(number)

    def _end_if_told(self, runner: Runner, iteration: int) -> None:
        if not self._before:
            return
        told = torch.tensor(int(self._received is not None))
        all_reduce(told, "max")
        if not told or not has_stepped(runner.optim_wrapper):
            return
        name = self._received.name if self._received is not None else "a signal to another process"
        runner.logger.warning(f"{name}: saving a checkpoint at iteration {iteration}.")
        path = self._saver.save_interim(runner, runner.epoch, iteration)
        barrier()  # a launcher that ends all with the first would end the one that writes
        runner.logger.warning(f"{name}: {path} is saved; --resume goes on from there. Exit status {self.exit_status}.")
        self.after_train(runner)
        raise SystemExit(self.exit_status)


def _shield(dataloader: DataLoader, signals: Sequence[signal.Signals]) -> None:
    """Have the workers of a dataloader that are yet to start listen to their process alone, where a system tells who
    sent a signal: neither macOS nor Windows does.
    """
    if dataloader.num_workers and hasattr(signal, "sigwaitinfo"):
        dataloader.worker_init_fn = partial(_init_worker, dataloader.worker_init_fn, tuple(signals))


def _init_worker(init: Callable[[int], None] | None, signals: Sequence[signal.Signals], worker_id: int) -> None:
    if init is not None:
        init(worker_id)
    # a signal that is blocked can be asked who sent it
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_end_with_parent, args=(signals,), name="maskfeat-signals", daemon=True).start()


def _end_with_parent(signals: Sequence[signal.Signals]) -> None:
    while True:
        if signal.sigwaitinfo(signals).si_pid == os.getppid():
            os._exit(0)


def _listened() -> list[signal.Signals]:
    """Signals that a hook of this process listens for."""
    handlers = {item: signal.getsignal(item) for item in signal.Signals}
    return [item for item, handler in handlers.items() if getattr(handler, "__func__", None) is TerminationHook._note]


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _listened())


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _listened())


def _leave_signals() -> None:
    signals = _listened()
    for item in signals:
        signal.signal(item, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


# A process that is forked while training listens, as the pools of metrics are, has to end by the signal: whoever sends
# it waits until the process is gone. Python forgets what reaches a process before it has begun, so that is held back.
if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_leave_signals)
