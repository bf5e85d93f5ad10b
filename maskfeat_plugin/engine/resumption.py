"""Choice of the checkpoint that a runner starts from: it is read safely and compared with the model first."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.optim import _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import Tensor

from maskfeat_plugin.checkpoints import CheckpointError, check_whole, local_file, newest_whole
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.storage import PREFIXES, StorageError

# Least share of a model's values that `load_from` has to give for training. Less means another architecture.
_MIN_FOUND = 0.2
_NAMED = 3


def choose_checkpoint(runner: Runner) -> None:
    """Set the checkpoint that a runner resumes or loads to a whole file that holds only weights and plain values.

    For ``resume=True`` without a path, it is the newest whole checkpoint of the work directory. A URL is downloaded
    here, because mmengine would unpickle the downloaded file without restrictions. A second call changes nothing.

    Args:
        runner (Runner): A runner that has not loaded anything yet. This function sets private attributes of it, because
            mmengine has no public ones.

    Raises:
        ConfigError: On every process, if the checkpoint is refused, if one process does not find it, or if there are
            checkpoints to resume but none is whole.
    """
    source, resume = _wish(runner)
    if source is None and not resume:
        return
    if source is not None and source == getattr(runner, "checked_checkpoint", None):
        return
    try:
        source = newest_checkpoint(runner) if source is None else source
        if source is not None:
            source = _on_every_process(_find, str(source))
            if Path(source).expanduser().exists():
                _of_first_process(check_whole, Path(source).expanduser())
    except CheckpointError as error:
        raise ConfigError(f"{'resume' if resume else 'load_from'}: {error}") from error
    if source is None:
        runner.logger.info(f"There is no checkpoint in {runner.work_dir} to resume. Training starts at the beginning.")
        runner._resume = False
    runner._load_from = runner.checked_checkpoint = source


def newest_checkpoint(runner: Runner) -> str | None:
    """Return the newest whole checkpoint in a runner's work directory, the same on every process; None without any.

    Args:
        runner (Runner): The runner. Every process has to call this function.

    Raises:
        CheckpointError: If there are checkpoints and none is whole.
    """
    return _of_first_process(_newest_of, runner.work_dir)


def check_fit(runner: Runner, checkpoint: Mapping) -> None:
    """Compare a checkpoint's weights with the model, before they are loaded.

    To resume and to test, the checkpoint has to contain every weight of the model in the same shape. For ``load_from``
    in training, the checkpoint may be of a model with another head: it has to contain a fifth of the values.

    Args:
        runner (Runner): A runner with its model.
        checkpoint (Mapping): The checkpoint that mmengine has read.

    Raises:
        ConfigError: If the checkpoint does not fit.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, "state_dict"):
        return
    source = runner._load_from
    given = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(given, Mapping) or not any(isinstance(value, Tensor) for value in given.values()):
        raise ConfigError(f"{source} holds no weights: it has no state_dict.")
    given = {name.removeprefix("module."): value for name, value in given.items() if isinstance(value, Tensor)}
    wanted = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    wrong = [name for name, value in wanted.items() if name not in given or given[name].shape != value.shape]
    in_training = isinstance(runner._train_loop, BaseLoop)
    if in_training and not runner._resume:
        total = sum(value.numel() for value in wanted.values())
        found = total - sum(wanted[name].numel() for name in wrong)
        if found < _MIN_FOUND * total:
            raise ConfigError(
                f"load_from={source!r} is of another architecture than model ({type(model).__name__}): it has "
                f"{found / max(total, 1):.0%} of its values. {_differences(wrong, wanted, given)} Give a checkpoint of "
                "this model. If only the names differ, set model.backbone.init_cfg=dict(type='maskfeat.Pretrained', "
                "checkpoint=...)."
            )
        return
    if in_training and "iter" not in (checkpoint.get("meta") or {}):
        raise ConfigError(
            f"{source} cannot be resumed: it holds weights alone, without the state of a training. To start from these "
            "weights, set load_from."
        )
    more = sorted(given.keys() - wanted.keys()) if in_training else []
    if wrong or more:
        what = "resumed" if in_training else "tested"
        raise ConfigError(
            f"{source} cannot be {what}: it is of another model than the config's model ({type(model).__name__}). "
            f"{_differences(wrong, wanted, given, more)}"
        )


def count_anew(runner: Runner, checkpoint: dict) -> None:
    """Convert the iteration numbers of a resumed training by epochs to the current length of an epoch.

    With another number of processes or another batch size, an epoch has another number of iterations. Without the
    conversion, the checkpoint's iteration could exceed the length of the training, and schedules would end at another
    epoch.

    Args:
        runner (Runner): A runner whose loop has not restored the numbers yet.
        checkpoint (dict): The checkpoint that mmengine has read. ``meta`` and ``param_schedulers`` are replaced if the
            length of an epoch has changed.
    """
    loop, meta = runner.train_loop, checkpoint["meta"]
    if not isinstance(loop, EpochBasedTrainLoop):
        return
    length = len(loop.dataloader)
    trained = (checkpoint.get("train_loop") or {}).get("trained", 0)
    before = (checkpoint.get("train_loop") or {}).get("length") or (
        meta["iter"] / meta["epoch"] if meta["epoch"] else 0
    )
    if before and before != length:
        iteration = min(meta["epoch"] * length + round(trained / before * length), loop.max_iters)
        runner.logger.info(
            f"An epoch now has {length} iterations: iteration {meta['iter']} of the checkpoint becomes {iteration}."
        )
        checkpoint["meta"] = dict(meta, iter=iteration)
        if isinstance(runner.param_schedulers, list) and "param_schedulers" in checkpoint:
            pairs = zip(runner.param_schedulers, checkpoint["param_schedulers"], strict=False)
            checkpoint["param_schedulers"] = [
                state if scheduler.by_epoch else _count_schedule_anew(scheduler, state, iteration)
                for scheduler, state in pairs
            ]


def _count_schedule_anew(scheduler: _ParamScheduler, state: dict, iteration: int) -> dict:
    """Return the state that a schedule by iterations, with its current lengths, has after so many iterations."""
    done = min(max(iteration - scheduler.begin, -1), scheduler.end - 1 - scheduler.begin)
    counts = dict(_global_step=iteration, last_step=done)
    kept = {name: state[name] for name in ("base_values", "_last_value") if name in state}
    return {**scheduler.state_dict(), **kept, **counts}


def _wish(runner: Runner) -> tuple[str | None, bool]:
    resume = runner._resume
    return (resume, True) if isinstance(resume, str) else (runner._load_from, bool(resume))


def _newest_of(work_dir: str) -> str | None:
    path = newest_whole(work_dir)
    return None if path is None else str(path)


def _find(source: str) -> str:
    """Return the path of a checkpoint on this machine. A source of another scheme, for mmengine, is not changed."""
    if urlparse(source).scheme in ("http", "https", "file", *PREFIXES):
        return str(local_file(source))
    if "://" not in source:
        local_file(source)
    return source


def _on_every_process(work: Callable[[str], str], argument: str) -> str:
    """Return the result of each process. If one process fails, raise its error on all, so that none waits for it."""
    found, error = argument, None
    try:
        found = work(argument)
    except (CheckpointError, StorageError, OSError) as failure:
        error = failure
    for rank, text in enumerate(all_gather_object(error and str(error))):
        if text is not None:
            raise CheckpointError(text if get_world_size() == 1 else f"process {rank}: {text}") from error
    return found


def _of_first_process(work: Callable[[Any], Any], argument: Any) -> Any:
    """Return the result of the first process on all processes, or raise its error on all. It reads the files once."""
    found: list[Any] = [None, None]
    if is_main_process():
        try:
            found[0] = work(argument)
        except CheckpointError as error:
            found[1] = error
        except Exception as error:  # a file can raise any error, and the other processes wait for a result
            found[1] = CheckpointError(f"{argument} cannot be read ({type(error).__name__}: {error}).")
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


def _differences(wrong: list[str], wanted: Mapping, given: Mapping, more: Sequence[str] = ()) -> str:
    """Describe the first differences between the weights of a model and the weights of a checkpoint."""
    parts = []
    missing = [name for name in wrong if name not in given]
    shapes = [
        f"{name} ({tuple(given[name].shape)}, here {tuple(wanted[name].shape)})" for name in wrong if name in given
    ]
    for what, names in (("It lacks", missing), ("Of another shape are", shapes), ("It has more:", more)):
        if names:
            rest = len(names) - _NAMED
            parts.append(f"{what} {', '.join(names[:_NAMED])}{f' and {rest} more' if rest > 0 else ''}.")
    return " ".join(parts)
