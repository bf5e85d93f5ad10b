"""A loss that is no number: found at its step, written down, and kept away from the weights."""

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

from ..optim_wrappers import has_stepped, wrappers_of
from ..resumption import newest_checkpoint

_ACTIONS = ("stop", "skip", "rewind")


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Finds a loss or gradients that are NaN or infinite, at their step, and keeps the weights as they were before it.

    What is known is written to ``non_finite/iter_N_rank_R`` in the work directory, by each process whose loss it is, or
    by all if only the gradients are: ``report.json`` with the losses, the norm of the gradients, the samples and their
    files, and ``batch.pth``, the batch as the model was given it, for ``torch.load``. Then all processes do the same:

    - "stop": training ends with an error.
    - "skip": training goes on with the next batch.
    - "rewind": weights and the optimizer's state are taken from the newest whole checkpoint, and training goes on with
      the next batch. The schedules and the order of the data go on too: with the same batches the same would happen.

    A gradient scaler of mixed precision that finds infinite gradients takes a smaller scale and leaves the step out.
    The loss is finite then, and this hook has nothing to do.

    Args:
        action (str): One of "stop", "skip", "rewind". Defaults to "stop".
        limit (int): Times that a training may go on; the next one ends it. Defaults to 10.

    Raises:
        ValueError: If the action is unknown or the limit negative.
    """

    priority = "VERY_HIGH"  # before the others use what the step has made

    def __init__(self, action: str = "stop", limit: int = 10) -> None:
        if action not in _ACTIONS:
            raise ValueError(f"NonFiniteLossHook: action={action!r} has to be one of {_ACTIONS}.")
        if limit < 0:
            raise ValueError(f"NonFiniteLossHook: limit={limit} has to be 0 or more.")
        self.action = action
        self.limit = limit
        self._times = 0
        self._norm: float | None = None
        self._left_out = False  # the step that was due in this iteration
        self._tainted = False  # gradients that are being accumulated

    def before_train(self, runner: Runner) -> None:
        """Watch the gradients that every optimizer is about to use."""
        for item in wrappers_of(runner.optim_wrapper):
            # a strategy's own engine may steer the optimizer past its hooks
            if isinstance(item.optimizer, Optimizer):
                item.optimizer.register_step_pre_hook(self._check_gradients)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Forget the step before."""
        self._norm, self._left_out = None, False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Act, if the loss or the gradients of any process were not finite.

        Raises:
            ConfigError: To stop, or if there is nothing to rewind to.
        """
        losses = {name: value for name, value in (outputs or {}).items() if "loss" in name}
        own = not all(bool(torch.isfinite(torch.as_tensor(value)).all()) for value in losses.values())
        found = torch.tensor([float(own), float(self._left_out)])
        all_reduce(found, "max")
        of_loss, left_out = map(bool, found)
        tainted = self._tainted
        self._tainted = (tainted or of_loss) and not has_stepped(runner.optim_wrapper)
        if not of_loss and (tainted or not left_out):  # all is well, or was reported with a batch before
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
                f"{what}{again}; {where}. Take bad samples out, lower the learning rate or clip gradients "
                "(optim_wrapper.clip_grad); maskfeat.NonFiniteLossHook with action='skip' or 'rewind' goes on."
            )
        if self.action == "rewind":
            path = _rewind(runner, what)
            runner.logger.warning(f"{what}; {where}. Weights and optimizer are those of {path} again.")
        else:
            runner.logger.warning(f"{what}; {where}. The step is left out.")

    def _check_gradients(self, optimizer: Optimizer, *args: object) -> None:
        """Take the gradients from an optimizer if they are not finite: without them it changes nothing."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients).detach() if gradients else torch.zeros(())
        bad = (~torch.isfinite(norm)).float().cpu()
        all_reduce(bad, "max")  # of a sharded model each process has its part
        self._norm = float(norm)
        if bad:
            self._left_out = True
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None

    def _write(self, runner: Runner, folder: Path, losses: dict[str, Any], data_batch: Any) -> str:
        """Write what is known of the iteration; returns why that cannot be done, "" if it is."""
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
    """Load weights and optimizer from the newest whole checkpoint; its path."""
    path = newest_checkpoint(runner)
    checkpoint = load_file(Path(path)) if path is not None and Path(path).exists() else {}
    if path is None or "optimizer" not in checkpoint:
        found = "there is no checkpoint yet" if path is None else f"{path} has no optimizer"
        raise ConfigError(
            f"{what}, and {found}, so that action='rewind' of maskfeat.NonFiniteLossHook cannot be done; save with "
            "default_hooks.checkpoint.save_optimizer=True and often enough."
        )
    wrappers = wrappers_of(runner.optim_wrapper)
    groups = [group for item in wrappers for group in item.optimizer.param_groups]
    # learning rates and the like, which schedulers change step by step, go on
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
    if isinstance(getattr(dataset, "dataset", dataset), DrawsFiles):  # another file each time
        return None
    return sample_path(dataset.get_data_info(index)) if hasattr(dataset, "get_data_info") else None


def _number(value: Any) -> float | str | None:
    """A number for JSON, which has no NaN."""
    if value is None:
        return None
    number = float(torch.as_tensor(value).detach().float().mean())
    return number if math.isfinite(number) else str(number)


def _plain(node: Any) -> Any:
    """A batch as tensors and plain values, which ``torch.load`` reads safely."""
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
