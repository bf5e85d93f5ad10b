"""Hook for clusters that end jobs early: it saves a checkpoint and exits with a status that asks for a restart."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier, get_comm_device, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from maskfeat_plugin.registry import HOOKS

from ..deferred_history import LateValue
from ..optim_wrappers import has_stepped
from .checkpoint_hook import CheckpointHook
from .non_finite_loss_hook import act_on_steps

# EX_TEMPFAIL of sysexits.h: a temporary failure, try again
EXIT_STATUS = 75
# Seconds between two checks of a training that waits too long
_INTERVAL = 1.0
# Functions in which torch waits for a batch, and for its workers at the beginning of an epoch
_WAITING = (_BaseDataLoaderIter.__next__.__code__, _MultiProcessingDataLoaderIter._get_data.__code__)


@HOOKS.register_module()
class TerminationHook(Hook):
    """Hook that ends a training after a signal: at the end of the step it saves a checkpoint and exits.

    ``--resume`` then continues from that step. If one of several processes receives the signal, all of them end at the
    same step. Training does not end between the batches of an accumulated step. Before training begins, and without a
    :class:`CheckpointHook`, the signal ends the process as usual. Several processes on GPUs end one step later, so that
    they need not wait for each other's answer in each step.

    A cluster also sends the signal to the dataloader's workers. They continue to read until the training ends them
    (Linux). If no batch comes within ``patience``, because a worker was stopped or its disk does not answer, the
    training ends without it. A single process, or the first of several, then saves the state after the last step. The
    other processes save none.

    Args:
        signals (Sequence[str]): Names of the signals. A signal that the process ignores, such as SIGHUP under
            ``nohup``, stays ignored. Defaults to ("SIGTERM", "SIGHUP"). SIGHUP is sent when a terminal is closed, and
            does not exist on Windows.
        patience (float): Seconds after the signal to wait for a batch. Defaults to 20.
        exit_status (int): Exit status of the process. Defaults to 75, ``EX_TEMPFAIL``. It differs from 1, for an error,
            and from 130, for Ctrl-C.

    Raises:
        ValueError: If a signal does not exist, if the status does not mean a failure, or if the patience is not
            positive.
    """

    priority = "LOWEST"  # after the other hooks have counted, logged and saved the step

    def __init__(
        self, signals: Sequence[str] | None = None, exit_status: int = EXIT_STATUS, patience: float = 20.0
    ) -> None:
        known = {item.name: item for item in signal.Signals}
        if signals is None:
            signals = [name for name in ("SIGTERM", "SIGHUP") if name in known]
        unknown = [name for name in signals if name not in known or name in ("SIGKILL", "SIGSTOP")]
        if unknown:
            raise ValueError(
                f"TerminationHook: signals={tuple(signals)}: {unknown[0]!r} is not a signal that a process can receive."
            )
        if not 0 < exit_status < 256:
            raise ValueError(f"TerminationHook: exit_status={exit_status} has to be between 1 and 255.")
        if not patience > 0:
            raise ValueError(f"TerminationHook: patience={patience} has to be positive.")
        self.patience = patience
        self.signals = [known[name] for name in signals]
        self.exit_status = exit_status
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}  # the previous handlers
        self._saver: CheckpointHook | None = None
        self._runner: Runner | None = None
        self._asked: LateValue | None = None  # the answer of all processes at the last step

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers."""
        self._saver = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
        if self._saver is None or threading.current_thread() is not threading.main_thread():
            return
        loops = [runner.train_loop] if runner.val_loop is None else [runner.train_loop, runner.val_loop]
        for loop in loops:
            _shield(loop.dataloader, self.signals)
        self._runner = runner
        listened = [item for item in self.signals if signal.getsignal(item) is not signal.SIG_IGN]
        self._before = {item: signal.signal(item, self._note) for item in listened}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """End the training, if a process has received a signal and no step is being accumulated."""
        self._end_if_told(runner, runner.iter + 1)  # the runner counts the iteration after its hooks

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """End the training in the middle of an evaluation, and leave its rest out. To finish it would take too long."""
        self._end_if_told(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        self._stop_timer()
        for item, handler in self._before.items():
            signal.signal(item, handler)
        self._before = {}
        self._runner = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received is None and hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self._end_if_stuck)
            signal.setitimer(signal.ITIMER_REAL, self.patience, _INTERVAL)
        self._received = signal.Signals(number)

    def _end_if_stuck(self, number: int, frame: FrameType | None) -> None:
        """End the training if the process waits for a batch. Within a step, do nothing: the step ends soon."""
        runner, waited = self._runner, _waited_for(frame)
        if runner is None or self._saver is None or self._received is None or not waited:
            return
        self._stop_timer()
        why = f"{self._received.name}: no batch came from the dataloader for {self.patience:g} seconds"
        loops = [runner.train_loop] if runner.val_loop is None else [runner.train_loop, runner.val_loop]
        # Only between two steps of a loop: not within a step, nor in an evaluation that a hook runs before the step
        # counts
        between = any(dataset is loop.dataloader.dataset for dataset in waited for loop in loops)
        alone = get_world_size() == 1 or (get_rank() == 0 and isinstance(runner, Runner))
        if between and alone and has_stepped(runner.optim_wrapper):
            path = self._saver.save_interim(runner, runner.epoch, runner.iter)
            runner.logger.warning(f"{why}; {path} is saved, --resume goes on from there.")
        else:
            runner.logger.warning(f"{why}; no checkpoint is saved, --resume goes on from the newest one.")
        self._exit(runner)

    def _exit(self, runner: Runner) -> None:
        """Exit without waiting for workers. A stopped worker would not end by SIGTERM."""
        self.after_train(runner)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise for the workers killed below
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()
        raise SystemExit(self.exit_status)

    def _stop_timer(self) -> None:
        if self._received is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _is_told(self, device: torch.device, late: bool) -> bool:
        """Ask all processes for a signal. If ``late``, return their answer at the last step, without waiting."""
        told = torch.full((), float(self._received is not None), device=device)
        all_reduce(told, "max")
        now = LateValue(told)
        answer, self._asked = (self._asked if late else now), now
        return answer is not None and bool(answer.read())

    def _end_if_told(self, runner: Runner, iteration: int) -> None:
        if self._saver is None or not self._before:
            return
        device = get_comm_device() if get_world_size() > 1 else torch.device("cpu")
        if not self._is_told(device, late=device.type != "cpu") or not has_stepped(runner.optim_wrapper):
            return
        self._stop_timer()
        act_on_steps(runner)
        name = self._received.name if self._received is not None else "a signal to another process"
        runner.logger.warning(f"{name}: saving a checkpoint at iteration {iteration}.")
        path = self._saver.save_interim(runner, runner.epoch, iteration)
        barrier()  # some launchers end all processes after the first exit, also the one that still writes
        runner.logger.warning(f"{name}: {path} is saved; --resume goes on from there. Exit status {self.exit_status}.")
        self._exit(runner)


def _waited_for(frame: FrameType | None) -> list[Dataset]:
    """Return the data sets for whose next batch a frame or one of its callers waits, the innermost first."""
    return [item.f_locals["self"]._dataset for item in _callers(frame) if item.f_code in _WAITING]


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _shield(dataloader: DataLoader, signals: Sequence[signal.Signals]) -> None:
    """Make the workers of a dataloader that have not started yet end only by a signal of their parent process.

    macOS and Windows do not tell the sender of a signal. There the workers react to signals of all processes.
    """
    if dataloader.num_workers and hasattr(signal, "sigwaitinfo"):
        dataloader.worker_init_fn = partial(_init_worker, dataloader.worker_init_fn, tuple(signals))


def _init_worker(init: Callable[[int], None] | None, signals: Sequence[signal.Signals], worker_id: int) -> None:
    if init is not None:
        init(worker_id)
    # A thread can ask for the sender of a signal only if the signal is blocked
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_end_with_parent, args=(signals,), name="maskfeat-signals", daemon=True).start()


def _end_with_parent(signals: Sequence[signal.Signals]) -> None:
    while True:
        if signal.sigwaitinfo(signals).si_pid == os.getppid():
            os._exit(0)


def _listened() -> list[signal.Signals]:
    """Return the signals that a hook of this process has a handler for."""
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


# A process forked during training, for example by the pool of a metric, has to end by the signal, because its parent
# waits for its end. Python loses signals that reach a child before it has started, so they are blocked around the fork.
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_leave_signals)
