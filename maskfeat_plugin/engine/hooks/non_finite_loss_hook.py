"""Hook that finds a loss which is NaN or infinite, writes a report, and keeps the weights unchanged."""

import json
import math
import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.optim import Optimizer

from maskfeat_plugin.checkpoints import load_file
from maskfeat_plugin.datasets.clips_by_duration import DrawsFiles
from maskfeat_plugin.datasets.sample_paths import sample_path
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import publish, reason_of, unfinished_path, whole_file
from maskfeat_plugin.registry import HOOKS

from ..deferred_history import DeferredHistory, LateValue
from ..optim_wrappers import can_leave_out, gradient_norm, gradient_scaling, has_stepped, wrappers_of
from ..resumption import newest_checkpoint

_ACTIONS = ("stop", "skip", "rewind")


@dataclass(frozen=True)
class _Step:
    """A training step whose flags the host has not read yet."""

    iteration: int
    epoch: int
    flags: LateValue  # is this process's loss not finite, any process's, and was the optimizer's step left out
    has_stepped: bool
    losses: dict[str, Any]
    norms: list[float | Tensor]  # of the gradients: after clipping, and the logged one from before
    data_batch: Any


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Hook that detects a loss or gradients that are NaN or infinite, and keeps the weights from before that step.

    Each process whose loss is not finite writes a report to ``non_finite/iter_N_rank_R`` in the work directory. If only
    the gradients are not finite, all processes do. ``report.json`` has the losses, the norm of the gradients, the
    samples and their files. ``batch.pth`` has the batch that the model got, for ``torch.load``. Then all processes do
    the same, depending on ``action``:

    - "stop": training ends with an error.
    - "skip": training continues with the next batch.
    - "rewind": weights and optimizer state are loaded from the newest whole checkpoint, and training continues with the
      next batch. The schedules and the order of the data are not rewound: the same batches would give the same loss.

    If a gradient scaler of mixed precision finds infinite gradients, it reduces its scale and skips the step itself.
    The loss is finite in that case, and this hook does nothing.

    The host does not wait for a GPU. The GPU itself leaves the step of a fused optimizer out. The host reads the result
    one step later, and then writes the report and stops, continues or rewinds. It reads it earlier if weights are saved
    or validated. With an optimizer that is not fused or has shards, and without a gradient scaler, the host
    waits in each step.

    Args:
        action (str): One of "stop", "skip", "rewind". Defaults to "stop".
        limit (int): How often training may continue; the next time ends it. Defaults to 10.
        delay (int, optional): Steps until the host reads whether a step was finite. With 0 it waits in each step.
            Defaults to None: 0 on a CPU, 1 on other devices.

    Raises:
        ValueError: If the action is unknown, or the limit or the delay is negative.
    """

    priority = "VERY_HIGH"  # before other hooks use the results of the step

    def __init__(self, action: str = "stop", limit: int = 10, delay: int | None = None) -> None:
        if action not in _ACTIONS:
            raise ValueError(f"NonFiniteLossHook: action={action!r} has to be one of {_ACTIONS}.")
        for name, value in (("limit", limit), ("delay", delay or 0)):
            if value < 0:
                raise ValueError(f"NonFiniteLossHook: {name}={value} has to be 0 or more.")
        self.action = action
        self.limit = limit
        self.delay = delay
        self._times = 0
        self._steps: deque[_Step] = deque()  # the oldest first
        self._norm: Tensor | None = None
        self._left_out: list[Tensor] = []  # for each optimizer, whether its step of this iteration was left out
        self._told: set[Optimizer] = set()  # optimizers whose device knows whether to leave the step out
        self._tainted = False  # whether the gradients being accumulated are not finite

    def before_train(self, runner: Runner) -> None:
        """Register a check of the gradients before each optimizer step."""
        for item in wrappers_of(runner.optim_wrapper):
            # the engine of a strategy may not call the optimizer's hooks
            if isinstance(item.optimizer, Optimizer):
                item.optimizer.register_step_pre_hook(self._check_gradients)
                item.optimizer.register_step_post_hook(self._forget)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Reset the state of the previous step."""
        self._norm, self._left_out = None, []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Stop, skip or rewind, if the loss or the gradients of any process were not finite ``delay`` steps ago.

        Raises:
            ConfigError: If training has to stop, or if there is no checkpoint to rewind to.
        """
        losses = {name: value for name, value in (outputs or {}).items() if "loss" in name}
        own = (~_all_finite(losses.values())).float()
        left_out = [value.to(own.device, non_blocking=True) for value in self._left_out]
        flags = torch.stack([own, own, torch.stack(left_out).amax() if left_out else torch.zeros_like(own)])
        all_reduce(flags[1:], "max")
        self._steps.append(
            _Step(
                runner.iter,
                runner.epoch,
                LateValue(flags),
                has_stepped(runner.optim_wrapper),
                losses,
                self._norms(runner),
                data_batch,
            )
        )
        self._read(runner, self._delay_on(flags.device))

    def before_val(self, runner: Runner) -> None:
        """Act on the steps before the validation of their weights."""
        self._read(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Act on the last steps of the epoch, before its weights are saved."""
        self._read(runner, 0)

    def after_train(self, runner: Runner) -> None:
        """Act on the last steps."""
        self._read(runner, 0)

    def _delay_on(self, device: torch.device) -> int:
        return self.delay if self.delay is not None else int(device.type != "cpu")

    def _read(self, runner: Runner, keep: int) -> None:
        """Read the flags of all steps except the last ones, and act on them."""
        while len(self._steps) > keep:
            self._act(runner, self._steps.popleft())

    def _act(self, runner: Runner, step: _Step) -> None:
        own, of_loss, left_out = map(bool, step.flags.read())
        tainted = self._tainted
        self._tainted = (tainted or of_loss) and not step.has_stepped
        if not of_loss and (tainted or not left_out):  # all is finite, or was reported with an earlier batch
            return
        text = "the loss" if of_loss else "the loss is finite, but the gradients"
        folder = Path(runner.work_dir, "non_finite", f"iter_{step.iteration + 1}_rank_{get_rank()}")
        where = f"the batch and its files are in {folder.parent}"
        if own or not of_loss:
            where = self._write(runner, folder, step) or where
        self._times += 1
        what = f"iteration {step.iteration + 1}: {text} {'is' if of_loss else 'are'} not finite"
        if self.action == "stop" or self._times > self.limit:
            again = f", for the {self._times}th time (limit={self.limit})" if self.action != "stop" else ""
            raise ConfigError(
                f"{what}{again}; {where}. Remove bad samples, lower the learning rate or clip gradients "
                "(optim_wrapper.clip_grad). To continue, use maskfeat.NonFiniteLossHook with action='skip' or 'rewind'."
            )
        if self.action == "rewind":
            path = _rewind(runner, what)
            runner.logger.warning(f"{what}; {where}. Weights and optimizer are loaded from {path}.")
        else:
            runner.logger.warning(f"{what}; {where}. The step is left out.")

    def _check_gradients(self, optimizer: Optimizer, *args: object) -> None:
        """Leave an optimizer's step out if its gradients are not finite."""
        if gradient_scaling(optimizer) is not None:
            return  # a fused optimizer leaves the step out by itself, as the scaler does for others
        norm = gradient_norm(optimizer)
        self._norm = torch.zeros(()) if norm is None else norm
        bad = (~torch.isfinite(self._norm)).float()
        all_reduce(bad, "max")  # all processes decide alike
        self._left_out.append(bad)
        if can_leave_out(optimizer) and self._delay_on(bad.device):
            optimizer.found_inf = bad  # type: ignore[attr-defined]  # as torch.amp.GradScaler sets it
            self._told.add(optimizer)
        elif bad:  # without gradients the step changes nothing
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _forget(self, optimizer: Optimizer, *args: object) -> None:
        """Remove the flag of this step from an optimizer."""
        if optimizer in self._told:
            self._told.remove(optimizer)
            del optimizer.found_inf  # type: ignore[attr-defined]

    def _norms(self, runner: Runner) -> list[float | Tensor]:
        """Return the norm of the gradients of this step, and the logged norm if there is one; none without a check."""
        if self._norm is None:
            return []
        history = runner.message_hub.log_scalars.get("train/grad_norm")
        if history is None:
            return [self._norm]
        return [self._norm, history.latest() if isinstance(history, DeferredHistory) else history.current()]

    def _write(self, runner: Runner, folder: Path, step: _Step) -> str:
        """Write the report of an iteration. Return the reason if that fails, otherwise ""."""
        dataset, data_batch = runner.train_dataloader.dataset, step.data_batch
        indices = runner.train_loop.samples_of(step.iteration) if hasattr(runner.train_loop, "samples_of") else []
        samples = [dict(index=index, file=_file(dataset, index)) for index in indices]
        if not samples and isinstance(data_batch, dict):
            metas = [getattr(sample, "metainfo", {}) for sample in data_batch.get("data_samples") or ()]
            samples = [dict(index=meta.get("sample_idx"), file=sample_path(meta)) for meta in metas]
        norms = [_number(norm) for norm in step.norms]  # clipping may turn an infinite norm into NaN
        report = dict(
            iteration=step.iteration + 1,
            epoch=step.epoch + 1,
            rank=get_rank(),
            losses={name: _number(value) for name, value in step.losses.items()},
            grad_norm=norms[-1] if norms and isinstance(norms[-1], str) else next(iter(norms), None),
            action=self.action,
            samples=samples,
        )
        unfinished = unfinished_path(folder)
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            (unfinished / "report.json").write_text(json.dumps(report, indent=2))
            with whole_file(unfinished / "batch.pth") as file:
                torch.save(_plain(data_batch), file)
            publish(folder)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            return f"{folder} cannot be written: {reason_of(error, folder)}"
        return ""


def act_on_steps(runner: Runner) -> None:
    """Act on all steps of a runner whose loss the host has not read yet, before their weights are saved.

    Args:
        runner (Runner): The runner of a training. Every process has to call this function.

    Raises:
        ConfigError: If a loss was not finite and the training has to stop.
    """
    for hook in runner.hooks:
        if isinstance(hook, NonFiniteLossHook):
            hook._read(runner, 0)


def _all_finite(values: Iterable[Any]) -> Tensor:
    """Return whether all values are finite, bool (), on the device of the values."""
    flags = [torch.isfinite(torch.as_tensor(value)).all() for value in values]
    device = next((flag.device for flag in flags if flag.device.type != "cpu"), torch.device("cpu"))
    flags = [flag.to(device, non_blocking=True) for flag in flags]
    return torch.stack(flags).all() if flags else torch.ones((), dtype=torch.bool)


def _rewind(runner: Runner, what: str) -> str:
    """Load weights and optimizer from the newest whole checkpoint, and return its path."""
    path = newest_checkpoint(runner)
    checkpoint = load_file(Path(path)) if path is not None and Path(path).exists() else {}
    if path is None or "optimizer" not in checkpoint:
        found = "there is no checkpoint yet" if path is None else f"{path} has no optimizer"
        raise ConfigError(
            f"{what}, and {found}, so that action='rewind' of maskfeat.NonFiniteLossHook cannot be done. Save often "
            "enough, with default_hooks.checkpoint.save_optimizer=True."
        )
    wrappers = wrappers_of(runner.optim_wrapper)
    groups = [group for item in wrappers for group in item.optimizer.param_groups]
    # Settings such as the learning rate are kept, because schedulers change them step by step
    settings = [{key: value for key, value in group.items() if key != "params"} for group in groups]
    if hasattr(runner, "strategy"):
        runner.strategy.load_model_state_dict(checkpoint["state_dict"])
        runner.strategy.load_optim_state_dict(checkpoint["optimizer"])
    else:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.load_state_dict(checkpoint["state_dict"])
        runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    groups = [group for item in wrappers for group in item.optimizer.param_groups]
    for group, kept in zip(groups, settings, strict=True):
        group.update(kept)
    for item in wrappers:
        item.zero_grad()
    return path


def _file(dataset: Any, index: int) -> str | None:
    if isinstance(getattr(dataset, "dataset", dataset), DrawsFiles):  # it draws another file each time
        return None
    return sample_path(dataset.get_data_info(index)) if hasattr(dataset, "get_data_info") else None


def _number(value: Any) -> float | str | None:
    """Convert a value for JSON, which has no NaN: a string if it is not finite."""
    if value is None:
        return None
    number = float(torch.as_tensor(value).detach().float().mean())
    return number if math.isfinite(number) else str(number)


def _plain(node: Any) -> Any:
    """Convert a batch to tensors and plain values, which ``torch.load`` reads safely."""
    if isinstance(node, Tensor):
        return node.detach().cpu().clone()
    if isinstance(node, np.ndarray) and node.dtype.kind in "biufc":
        return torch.from_numpy(node.copy())
    if isinstance(node, np.generic | np.ndarray):
        return node.tolist()
    if isinstance(node, BaseDataElement):
        return {key: _plain(value) for key, value in (*node.metainfo_items(), *node.items())}
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(item) for item in node]
    if hasattr(node, "tensor"):  # mmdet's boxes
        return _plain(node.tensor)
    return node if isinstance(node, str | int | float | bool | None) else str(node)
