"""Hook that saves checkpoints which survive interruptions and from which training resumes exactly."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.runner import Runner

from maskfeat_plugin.checkpoints import is_sharded, remove_unfinished, write_last
from maskfeat_plugin.checkpoints.publishing import LAST
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import reason_of, unfinished_path, whole_file
from maskfeat_plugin.locks import hold_folder
from maskfeat_plugin.registry import HOOKS
from maskfeat_plugin.storage import FsspecBackend, StorageError

from ..resumption import check_fit, choose_checkpoint, count_anew
from .non_finite_loss_hook import act_on_steps

_LOOP = "train_loop"  # key in a checkpoint
_INTERIM = "interim_checkpoint"  # key in the message hub


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's ``CheckpointHook``, but a checkpoint is always complete or absent.

    Differences from mmengine 0.10.7:

    - A checkpoint is written under another name in the same folder, written to the disk, and then renamed. The same
      applies to ``last_checkpoint``. Outdated checkpoints, including outdated best ones, are removed only after that.
    - A full disk stops the training with one clear error. Existing checkpoints are kept.
    - ``resume=True`` resumes from the newest whole checkpoint, see :func:`maskfeat_plugin.checkpoints.newest_whole`.
      Checkpoints of another model are refused before any weight is changed.
    - With the loops of this package, ``maskfeat.EpochBasedTrainLoop`` and ``maskfeat.IterBasedTrainLoop``, training
      resumes exactly from any iteration.

    Args: as for mmengine's class.
    """

    _trains = False
    file_backend: BaseStorageBackend

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to resume from, unless the tool that runs the training has chosen it already."""
        choose_checkpoint(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint of another model, and keep the state of the loop.

        Raises:
            ConfigError: If the checkpoint does not fit the model.
        """
        check_fit(runner, checkpoint)
        self._loop_state = checkpoint.get(_LOOP)
        if runner._resume:
            count_anew(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Set the loop to the position of the checkpoint, and remove unfinished files of an earlier training.

        Raises:
            ConfigError: If another training writes to the folder.
        """
        super().before_train(runner)
        self._trains = True
        self._look_in_own_folder(runner)
        state = getattr(self, "_loop_state", None)
        if state is not None and runner.iter > 0 and hasattr(runner.train_loop, "load_state_dict"):
            runner.train_loop.load_state_dict(state)
        if is_main_process() and self._is_local():
            hold_folder(self.out_dir)  # so that unfinished files of a running training are not removed
            remove_unfinished(self.out_dir)
        elif is_main_process() and isinstance(self.file_backend, FsspecBackend):
            self._abort_uploads(runner)

    def _abort_uploads(self, runner: Runner) -> None:
        """Remove the parts of uploads that a killed training left. The log names them."""
        try:
            found = self.file_backend.abort_uploads(self.out_dir)
        except StorageError as error:  # listing uploads needs a right of its own
            runner.logger.warning(f"Unfinished uploads to {self.out_dir} were not searched: {error}")
        else:
            for address in found:
                runner.logger.info(f"{address}: the parts of an unfinished upload are removed.")

    def _look_in_own_folder(self, runner: Runner) -> None:
        """Replace the checkpoint paths of a resumed training by paths in this training's folder.

        A resumed training knows the paths in the folder where it ran before. After a copy of the work directory, or
        with another work directory, they are the paths of the first training, whose checkpoints would be removed as
        outdated.
        """
        known = runner.message_hub.runtime_info
        for name in [name for name in known if name == _INTERIM or name.startswith("best_ckpt")]:
            path = self.file_backend.join_path(self.out_dir, Path(known.pop(name)).name)
            if self.file_backend.exists(path):
                known[name] = path
        if self.save_best and len(self.key_indicators) == 1:
            self.best_ckpt_path = known.get("best_ckpt")
        elif self.save_best:
            self.best_ckpt_path_dict = {name: known.get(f"best_ckpt_{name}") for name in self.key_indicators}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Save the best checkpoint during training. An evaluation without training saves none.

        Raises:
            ConfigError: If ``save_best`` names a metric that the evaluation does not compute.
        """
        if not (self._trains and self.save_best and metrics):
            return
        unknown = [name for name in self.key_indicators if name != "auto" and name not in metrics]
        if unknown:
            raise ConfigError(
                f"save_best: {unknown[0]!r} is not a metric of the validation. Choose one of "
                f"{', '.join(map(repr, metrics))}."
            )
        super().after_val_epoch(runner, metrics)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the state of the loop."""
        if hasattr(runner.train_loop, "load_state_dict"):
            meta = checkpoint["meta"]
            checkpoint[_LOOP] = runner.train_loop.state_dict(meta["epoch"], meta["iter"])

    def save_interim(self, runner: Runner, epoch: int, iteration: int) -> str:
        """Save an extra checkpoint for an exact resumption. The next regular checkpoint replaces it.

        Args:
            runner (Runner): The runner of the training.
            epoch (int): Number of finished epochs.
            iteration (int): Number of finished iterations.

        Returns:
            str: The path of the checkpoint.
        """
        name = f"iter_{iteration}.pth"
        path = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info(_INTERIM, path)
        self.last_ckpt = path
        # The epoch and iteration are in `meta`. The runner with strategies would set its own numbers otherwise.
        self._write(
            runner, name, dict(epoch=epoch, iter=iteration), by_epoch=False, save_optimizer=True, **self._extra()
        )
        self._write_last(runner)
        return path

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        act_on_steps(runner)
        outdated = self._keep(runner, step)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        interim = runner.message_hub.runtime_info.pop(_INTERIM, None)
        if interim is not None and interim != self.last_ckpt:
            outdated.append(interim)
        self._write(runner, name, meta, by_epoch=self.by_epoch, save_optimizer=self.save_optimizer, **self._extra())
        self._write_last(runner)
        if is_main_process():
            for path in outdated:
                self._remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_afterwards():
            super()._save_best_checkpoint(_WholeWriter(runner, self), metrics)

    def _extra(self) -> dict[str, Any]:
        return dict(self.args, save_param_scheduler=self.save_param_scheduler)

    def _keep(self, runner: Runner, step: int) -> list[str]:
        """Record that a checkpoint is kept. Return the paths of the outdated ones, to remove after it is written."""
        outdated: list[str] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                name = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                outdated.append(self.file_backend.join_path(self.out_dir, name))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return outdated

    def _write(self, runner: Runner, name: str, meta: dict, **settings: Any) -> None:
        """Write a checkpoint. Every process has to call this method."""
        settings.update(file_client_args=self.file_client_args, backend_args=self.backend_args)
        path = Path(self.out_dir, name)
        # The functions that write shards also write them under another name and rename them
        whole = self._is_local() and not is_sharded(name)
        name = unfinished_path(path).name if whole else name
        with self._explaining(path), whole_file(path) if whole and is_main_process() else nullcontext():
            runner.save_checkpoint(self.out_dir, name, meta=meta, **settings)

    @contextmanager
    def _explaining(self, path: Path) -> Iterator[None]:
        """Turn the error of a file that cannot be written into one with advice."""
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"the checkpoint {path} cannot be written: {reason_of(error, path)}. The existing checkpoints are "
                "kept. Make room, or set max_keep_ckpts to keep fewer, and continue with --resume"
            ) from error

    def _write_last(self, runner: Runner) -> None:
        if is_main_process():
            with self._explaining(Path(runner.work_dir, LAST)):
                write_last(runner.work_dir, self.last_ckpt)

    def _is_local(self) -> bool:
        return isinstance(self.file_backend, LocalBackend)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)

    @contextmanager
    def _removing_afterwards(self) -> Iterator[None]:
        """Remove files only after the block has written everything, and none if the block fails."""
        backend, keeping = self.file_backend, _KeepingBackend()
        if self._is_local():
            self.file_backend = keeping
        try:
            yield
        finally:
            self.file_backend = backend
        for path in keeping.outdated:
            if os.path.abspath(path) not in map(os.path.abspath, self._best_paths()):
                self._remove(path)

    def _best_paths(self) -> list[str]:
        paths = [getattr(self, "best_ckpt_path", None), *getattr(self, "best_ckpt_path_dict", {}).values()]
        return [path for path in paths if path]


class _KeepingBackend(LocalBackend):
    """Storage backend that records paths instead of removing them."""

    def __init__(self) -> None:
        self.outdated: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        self.outdated.append(str(filepath))

    def rmtree(self, dir_path: str | Path) -> None:
        self.outdated.append(str(dir_path))


class _WholeWriter:
    """Runner whose checkpoints are written by a :class:`CheckpointHook`, and so are complete or absent."""

    def __init__(self, runner: Runner, hook: CheckpointHook) -> None:
        self._runner = runner
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, **settings: Any) -> None:
        settings.pop("file_client_args", None)
        settings.pop("backend_args", None)
        self._hook._write(self._runner, filename, **settings)
