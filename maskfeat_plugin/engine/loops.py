"""Training loops that continue after an interruption at any step exactly as without the interruption."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import BaseLoop
from mmengine.runner import EpochBasedTrainLoop as _EpochBasedTrainLoop
from mmengine.runner import IterBasedTrainLoop as _IterBasedTrainLoop
from torch.utils.data import DataLoader, Dataset

from maskfeat_plugin.registry import LOOPS

from .batches import ResumableBatchSampler, make_resumable, seed_random
from .schedules import fit_schedules

# Marks the random states of steps. They differ from the states of samples, whose keys have another length.
_STEP = 0x57E9


class _ExactLoop:
    """Common part of both loops: the random state of each step, and the loop's own part of a checkpoint.

    All randomness of a step depends only on the seed, the process and the number of the step: the order of the samples,
    the random numbers of each sample with any number of workers, and the random numbers of the model. Nothing depends
    on random numbers drawn before. So a checkpoint needs no random states, and none has to be saved per process.
    """

    runner: Any
    dataloader: DataLoader
    _iter: int
    _batches: ResumableBatchSampler

    def samples_of(self, iteration: int) -> list[int]:
        """Return the sample numbers, in the data set, of the step with the given number."""
        return self._batches.samples_of(iteration)

    def _seed(self) -> int:
        return self.runner.seed

    def _seed_step(self) -> None:
        """Set the random state with which the step, including its hooks, starts."""
        seed_random(self._seed(), self._iter, _STEP, 0)
        torch.manual_seed(int(torch.randint(2**62, ())))  # seeds all devices

    def _state(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs for an exact resumption."""
        # A training without a seed draws this one at random, so it would differ after a restart
        return dict(sampler_seed=getattr(self.dataloader.sampler, "seed", None))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint, before the first batch is drawn."""
        if state.get("sampler_seed") is not None and hasattr(self.dataloader.sampler, "seed"):
            self.dataloader.sampler.seed = state["sampler_seed"]


@LOOPS.register_module()
class EpochBasedTrainLoop(_ExactLoop, _EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop`` that can resume in the middle of an epoch.

    On a CPU, the result is bitwise equal to training without an interruption. The class needs :class:`CheckpointHook`,
    which writes the position in the epoch into the checkpoints. Without that hook, and from checkpoints of other
    programs, training resumes at the beginning of an epoch, as with mmengine's loop.

    Args: as for mmengine's class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batches = make_resumable(self.dataloader, self._seed)
        self._trained = 0  # batches of this epoch that are done
        fit_schedules(self)

    def run_epoch(self) -> None:
        """Train the remaining batches of an epoch."""
        self._batches.begin(self._trained, self._iter)
        super().run_epoch()
        self._trained = 0

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Train one batch.

        Args:
            idx (int): The number of the batch among the drawn ones. Hooks get its number in the epoch instead.
            data_batch (Sequence[dict]): The batch.
        """
        self._seed_step()
        super().run_iter(self._trained, data_batch)
        self._trained += 1

    def state_dict(self, epoch: int, iteration: int) -> dict[str, Any]:
        """Return the state that a checkpoint needs for an exact resumption.

        Args:
            epoch (int): Number of finished epochs according to the checkpoint.
            iteration (int): Number of finished iterations according to the checkpoint.
        """
        # Called within a step, or at the end of an epoch, before the loop has counted it
        trained = 0 if epoch > self._epoch else self._trained + iteration - self._iter
        return dict(self._state(), trained=trained, length=len(self.dataloader))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of :meth:`state_dict`. Keep the finished share if an epoch's length has changed."""
        super().load_state_dict(state)
        self._trained, length = state["trained"], len(self.dataloader)
        if self._trained and state["length"] != length:
            self._trained = round(self._trained / state["length"] * length)
            if get_rank() == 0:
                print_log(
                    f"An epoch had {state['length']} batches when the checkpoint was written and has {length} now. "
                    f"Training continues at batch {self._trained}, with other batches.",
                    "current",
                )


class _BatchesToCome:
    """Remaining batches of a resumed loop. The dataloader's iterator is created when the first batch is drawn."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._dataloader: DataLoader = loop.dataloader
        self.dataset: Dataset = loop.dataloader.dataset

    def __iter__(self) -> Iterator[Sequence[dict] | None]:
        done = self._loop.iter
        for _ in range(done):
            yield None  # mmengine's loop draws and ignores the batches before its iteration
        self._loop._batches.begin(done, done)
        yield from self._dataloader


class _ReadLater(BaseLoop):
    """Second base class of a loop whose first base class creates the dataloader's iterator at once.

    Workers that start to read at once would not know yet at which batch training resumes.
    """

    dataloader: Any  # first the dataloader that BaseLoop builds, then the remaining batches

    def __init__(self, runner: Any, dataloader: DataLoader | dict) -> None:
        super().__init__(runner, dataloader)
        self._opened_later: DataLoader = self.dataloader
        self.dataloader = _BatchesToCome(self)


@LOOPS.register_module()
class IterBasedTrainLoop(_ExactLoop, _IterBasedTrainLoop, _ReadLater):
    """mmengine's ``IterBasedTrainLoop`` that can resume at any iteration.

    On a CPU, the result is bitwise equal to training without an interruption. mmengine's loop reads and augments all
    batches that were trained before, only to skip them. This loop only draws their sample numbers.

    Args: as for mmengine's class.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self.dataloader = self._opened_later
        self._batches = make_resumable(self.dataloader, self._seed, endless=True)
        fit_schedules(self)

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train one batch.

        Args:
            data_batch (Sequence[dict]): The batch.
        """
        self._seed_step()
        super().run_iter(data_batch)

    def state_dict(self, epoch: int, iteration: int) -> dict[str, Any]:
        """Return the state that a checkpoint needs besides the iteration number, see :class:`EpochBasedTrainLoop`."""
        return self._state()
