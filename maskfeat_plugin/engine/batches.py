"""Batches whose order and randomness depend only on the seed and the batch number, also after a resumption."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader


def seed_random(*key: int) -> None:
    """Set the random states of Python, numpy and torch on the CPU.

    Args:
        *key (int): Non-negative numbers. Different keys give unrelated states.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))


# Number of batches to remember: more than any number of workers draws ahead
_REMEMBERED = 4096


@dataclass(frozen=True)
class SeededBatch:
    """Sample numbers of a batch. Iteration sets the random states for a sample immediately before it yields its number.

    A dataloader's worker, or the process itself, draws a number and then reads the sample. The sample therefore depends
    neither on the number of workers nor on the samples before it.

    Attributes:
        indices: The sample numbers.
        key: The key of the batch, for :func:`seed_random`.
    """

    indices: list[int]
    key: tuple[int, ...]

    def __iter__(self) -> Iterator[int]:
        for place, index in enumerate(self.indices):
            seed_random(*self.key, place)
            yield index

    def __len__(self) -> int:
        return len(self.indices)


class ResumableBatchSampler:
    """Batch sampler that starts at a given batch and seeds each batch by the number of the training step.

    Args:
        batch_sampler (Any): The batch sampler that gives the batches. It always gives the same ones for an epoch.
        seed (Callable[[], int]): Returns the seed of this process.
        endless (bool): Whether to iterate over ``batch_sampler`` again and again, as mmengine's loop by iterations
            does, and to set the epoch of its sampler to the number of the pass. Defaults to False.
    """

    def __init__(self, batch_sampler: Any, seed: Callable[[], int], endless: bool = False) -> None:
        self.batch_sampler = batch_sampler
        self._seed = seed
        self._endless = endless
        self._skipped = self._step = 0
        self._given: deque[tuple[int, list[int]]] = deque(maxlen=_REMEMBERED)

    def __getattr__(self, name: str) -> Any:
        if name == "batch_sampler":  # missing while the object is copied
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def begin(self, skipped: int, step: int) -> None:
        """Set the start of the next iteration over this sampler.

        Args:
            skipped (int): Number of batches to skip.
            step (int): Number of the training step that gets the first batch.
        """
        self._skipped, self._step = skipped, step

    def __iter__(self) -> Iterator[SeededBatch]:
        seed, skipped, step = self._seed(), self._skipped, self._step
        for number, indices in enumerate(self._passes() if self._endless else self.batch_sampler):
            if number >= skipped:
                self._given.append((step + number - skipped, list(indices)))
                yield SeededBatch(list(indices), (seed, step + number - skipped))

    def samples_of(self, step: int) -> list[int]:
        """Return the sample numbers, in the data set, of one of the last batches.

        Args:
            step (int): Number of the training step.
        """
        return next((indices for number, indices in reversed(self._given) if number == step), [])

    def _passes(self) -> Iterator[list[int]]:
        number = 0
        while True:
            empty = True
            for indices in self.batch_sampler:
                empty = False
                yield indices
            if empty:
                raise ValueError("train_dataloader gives no batch: the data set has fewer samples than batch_size.")
            number += 1
            if hasattr(self.batch_sampler.sampler, "set_epoch"):
                self.batch_sampler.sampler.set_epoch(number)


def make_resumable(dataloader: DataLoader, seed: Callable[[], int], endless: bool = False) -> ResumableBatchSampler:
    """Make a dataloader take its batches from a :class:`ResumableBatchSampler`. Call it before drawing a batch.

    Args:
        dataloader (DataLoader): A dataloader with a batch sampler; changed in place.
        seed (Callable[[], int]): Returns the seed of this process.
        endless (bool): See :class:`ResumableBatchSampler`. Defaults to False.

    Returns:
        ResumableBatchSampler: The new batch sampler.
    """
    batches = ResumableBatchSampler(dataloader.batch_sampler, seed, endless)
    # Not through DataLoader.__setattr__, which refuses this change to protect workers that already run. A batch sampler
    # given to the constructor would leave the dataloader without batch_size, by which mmengine scales learning rates.
    object.__setattr__(dataloader, "batch_sampler", batches)
    return batches
