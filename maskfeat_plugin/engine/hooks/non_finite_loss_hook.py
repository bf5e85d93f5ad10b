"""Hook that finds a loss which is NaN or infinite, writes a report, and keeps the weights unchanged."""

import json
import math
import shutil
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

from ..optim_wrappers import gradient_norm, gradient_scaling, has_stepped, wrappers_of
from ..resumption import newest_checkpoint

_ACTIONS = ("stop", "skip", "rewind")


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

    Args:
        action (str): One of "stop", "skip", "rewind". Defaults to "stop".
        limit (int): How often training may continue; the next time ends it. Defaults to 10.

    Raises:
        ValueError: If the action is unknown or the limit is negative.
    """

    priority = "VERY_HIGH"  # before other hooks use the results of the step

    def __init__(self, action: str = "stop", limit: int = 10) -> None:
        if action not in _ACTIONS:
            raise ValueError(f"NonFiniteLossHook: action={action!r} has to be one of {_ACTIONS}.")
        if limit < 0:
            raise ValueError(f"NonFiniteLossHook: limit={limit} has to be 0 or more.")
        self.action = action
        self.limit = limit
        self._times = 0
        self._norm: float | None = None
        self._left_out = False  # whether the optimizer step of this iteration was skipped
        self._tainted = False  # whether the gradients being accumulated are not finite

    def before_train(self, runner: Runner) -> None:
        """Register a check of the gradients before each optimizer step."""
        for item in wrappers_of(runner.optim_wrapper):
            # the engine of a strategy may not call the optimizer's hooks
            if isinstance(item.optimizer, Optimizer):
                item.optimizer.register_step_pre_hook(self._check_gradients)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Reset the state of the previous step."""
        self._norm, self._left_out = None, False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Stop, skip or rewind, if the loss or the gradients of any process are not finite.

        Raises:
            ConfigError: If training has to stop, or if there is no checkpoint to rewind to.
        """
        losses = {name: value for name, value in (outputs or {}).items() if "loss" in name}
        own = not all(bool(torch.isfinite(torch.as_tensor(value)).all()) for value in losses.values())
        found = torch.tensor([float(own), float(self._left_out)])
        all_reduce(found, "max")
        of_loss, left_out = map(bool, found)
        tainted = self._tainted
        self._tainted = (tainted or of_loss) and not has_stepped(runner.optim_wrapper)
        if not of_loss and (tainted or not left_out):  # all is finite, or was reported with an earlier batch
            return
        text = "the loss" if of_loss else "the loss is finite, but the gradients"
        folder = Path(runner.work_dir, "non_finite", f"iter_{runner.iter + 1}_rank_{get_rank()}")
        where = f"the batch and its files are in {folder.parent}"
        if own or not of_loss:
            where = self._write(runner, folder, losses, data_batch) or where
        self._times += 1
        what = f"iteration {runner.iter + 1}: {text} {'is' if of_loss else 'are'} not finite"
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
        """Remove the gradients from an optimizer if they are not finite. Without gradients the step changes nothing."""
        if gradient_scaling(optimizer) is not None:
            return  # a fused optimizer leaves the step out by itself, as the scaler does for others
        norm = gradient_norm(optimizer)
        norm = torch.zeros(()) if norm is None else norm
        bad = (~torch.isfinite(norm)).float().cpu()
        all_reduce(bad, "max")  # all processes decide alike
        self._norm = float(norm)
        if bad:
            self._left_out = True
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _write(self, runner: Runner, folder: Path, losses: dict[str, Any], data_batch: Any) -> str:
        """Write the report of an iteration. Return the reason if that fails, otherwise ""."""
        dataset = runner.train_dataloader.dataset
        indices = runner.train_loop.samples_of(runner.iter) if hasattr(runner.train_loop, "samples_of") else []
        samples = [dict(index=index, file=_file(dataset, index)) for index in indices]
        if not samples and isinstance(data_batch, dict):
            metas = [getattr(sample, "metainfo", {}) for sample in data_batch.get("data_samples") or ()]
            samples = [dict(index=meta.get("sample_idx"), file=sample_path(meta)) for meta in metas]
        hub = runner.message_hub.log_scalars
        clipped = hub["train/grad_norm"].current() if "train/grad_norm" in hub and self._norm is not None else None
        report = dict(
            iteration=runner.iter + 1,
            epoch=runner.epoch + 1,
            rank=get_rank(),
            losses={name: _number(value) for name, value in losses.items()},
            grad_norm=_number(clipped if clipped is not None and not math.isfinite(clipped) else self._norm),
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
