"""Loops of training that go on, after an interruption at any step, as if there had been none."""

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

# What the random numbers are for: those of a step come after those of its samples, whose keys are longer
_STEP = 0x57E9


class _ExactLoop:
    """What both loops share: the random state of each step, and the part of a checkpoint that is theirs.

    Everything random in a step depends on the seed, the process and the number of the step: the order of the samples,
    what is drawn for each of them, whatever the number of workers, and what the model draws. Nothing depends on what
    was drawn before, so a checkpoint needs no random states, and those of no process are lost.
    """

    runner: Any
    dataloader: DataLoader
    _iter: int
    _batches: ResumableBatchSampler

    def samples_of(self, iteration: int) -> list[int]:
        """Numbers, in the data set, of the samples of the step with that number."""
        return self._batches.samples_of(iteration)

    def _seed(self) -> int:
        return self.runner.seed

    def _seed_step(self) -> None:
        """Set the random state that the step, hooks included, begins with."""
        seed_random(self._seed(), self._iter, _STEP, 0)
        torch.manual_seed(int(torch.randint(2**62, ())))  # of every device

    def _state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on exactly."""
        # drawn, and thus another after a restart, for a training that has no seed of its own
        return dict(sampler_seed=getattr(self.dataloader.sampler, "seed", None))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state of a checkpoint, before the first batch is drawn."""
        if state.get("sampler_seed") is not None and hasattr(self.dataloader.sampler, "seed"):
            self.dataloader.sampler.seed = state["sampler_seed"]


@LOOPS.register_module()
class EpochBasedTrainLoop(_ExactLoop, _EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop`` that goes on in the middle of an epoch, bitwise the same on a CPU.

    Needs :class:`CheckpointHook` to write where it is into the checkpoints. Without it, and from checkpoints of others,
    training goes on at the beginning of an epoch, as mmengine's does.

    Args: as mmengine's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._batches = make_resumable(self.dataloader, self._seed)
        self._trained = 0  # batches of this epoch
        fit_schedules(self)

    def run_epoch(self) -> None:
        """Train what is left of an epoch."""
        self._batches.begin(self._trained, self._iter)
        super().run_epoch()
        self._trained = 0

    def run_iter(self, idx: int, data_batch: Sequence[dict]) -> None:
        """Train a batch.

        Args:
            idx (int): Its number among those drawn; hooks are told that in the epoch.
            data_batch (Sequence[dict]): The batch.
        """
        self._seed_step()
        super().run_iter(self._trained, data_batch)
        self._trained += 1

    def state_dict(self, epoch: int, iteration: int) -> dict[str, Any]:
        """What a checkpoint needs to go on exactly.

        Args:
            epoch (int): Epochs that are done by its own account.
            iteration (int): Iterations that are.
        """
        # asked within a step, or at the end of an epoch, before the loop has counted it
        trained = 0 if epoch > self._epoch else self._trained + iteration - self._iter
        return dict(self._state(), trained=trained, length=len(self.dataloader))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the same share of the epoch if it now has another length."""
        super().load_state_dict(state)
        self._trained, length = state["trained"], len(self.dataloader)
        if self._trained and state["length"] != length:
            self._trained = round(self._trained / state["length"] * length)
            if get_rank() == 0:
                print_log(
                    f"An epoch had {state['length']} batches where the checkpoint was written and has {length} now: "
                    f"training goes on at number {self._trained}, with other batches.",
                    "current",
                )


class _BatchesToCome:
    """Batches of a loop from where its training goes on; its dataloader is opened when the first is drawn."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._dataloader: DataLoader = loop.dataloader
        self.dataset: Dataset = loop.dataloader.dataset

    def __iter__(self) -> Iterator[Sequence[dict] | None]:
        done = self._loop.iter
        for _ in range(done):
            yield None  # mmengine's loop draws past the batches before its iteration
        self._loop._batches.begin(done, done)
        yield from self._dataloader


class _ReadLater(BaseLoop):
    """Second base of a loop whose first base opens the dataloader at once.

    Workers that begin to read at once would not know yet where training goes on.
    """

    dataloader: Any  # first the one that BaseLoop builds, then the batches to come

    def __init__(self, runner: Any, dataloader: DataLoader | dict) -> None:
        super().__init__(runner, dataloader)
        self._opened_later: DataLoader = self.dataloader
        self.dataloader = _BatchesToCome(self)


@LOOPS.register_module()
class IterBasedTrainLoop(_ExactLoop, _IterBasedTrainLoop, _ReadLater):
    """mmengine's ``IterBasedTrainLoop`` that goes on at any iteration, bitwise the same on a CPU.

    mmengine's reads and augments all the batches that were trained before, to get past them; this one only counts
    their numbers.

    Args: as mmengine's.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(runner, dataloader, *args, **kwargs)
        self.dataloader = self._opened_later
        self._batches = make_resumable(self.dataloader, self._seed, endless=True)
        fit_schedules(self)

    def run_iter(self, data_batch: Sequence[dict]) -> None:
        """Train a batch.

        Args:
            data_batch (Sequence[dict]): The batch.
        """
        self._seed_step()
        super().run_iter(data_batch)

    def state_dict(self, epoch: int, iteration: int) -> dict[str, Any]:
        """What a checkpoint needs beside the number of the iteration, see :class:`EpochBasedTrainLoop`."""
        return self._state()
